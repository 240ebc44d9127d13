"""Annotations are checked in the first calls of a function in a process, and in few of the later ones: jaxtyping takes
some 50 microseconds for a call, longer than most small functions do."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import is_dataclass
from itertools import count
from typing import Any

FIRST, EVERY = 50, 29
"""Checked are the first calls, and then one in so many: a prime, which no period of a loop hides from."""

Decorator = Callable[..., Any]


def sampled(jaxtyped: Decorator) -> Decorator:
    """A stand-in for `jaxtyping.jaxtyped`, which the import hook of jaxtyping puts on each function and class."""

    def decorate(fn: Any = None, *, typechecker: Any) -> Any:
        if fn is None:
            return functools.partial(decorate, typechecker=typechecker)
        if not inspect.isclass(fn):
            return _sampled(fn, jaxtyped(typechecker=typechecker))
        if is_dataclass(fn) and "__init__" in vars(fn) and not hasattr(fn.__init__, "__wrapped__"):
            fn.__init__ = _sampled(fn.__init__, jaxtyped(typechecker=typechecker))
        return fn

    return decorate


def _sampled(fn: Callable[..., Any], check: Decorator) -> Callable[..., Any]:
    """The function, checked in some of its calls; the check is compiled in the first one."""
    calls, checked = count(), functools.cache(lambda: check(fn))

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        number = next(calls)
        return (checked() if number < FIRST or number % EVERY == 0 else fn)(*args, **kwargs)

    return call
