from .grammar import Question as Question
from .grammar import parse as parse
from .items import Item as Item
from .items import Space as Space
from .items import space_of as space_of
from .named import NamedItems as NamedItems
from .solution import Solution as Solution
from .solver import solve as solve
