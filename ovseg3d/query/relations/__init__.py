"""Questions about places: "the mug on the desk", "which chairs face the window?", "how many chairs are there?".

    space = space_of((0, 0, 1), metric=True)
    items = [space.item(record, has_front=True) for record in records]
    solution = solve("the mug on the desk", NamedItems(space, items))
    solution.matches, solution.text

A question is read by a small grammar (`grammar`), its nouns are looked up in a catalogue, and its relations are
measured on upright boxes (`measures`). In a run the encoder names the instances (`in_run`), and the detection head
knows which way they face.

What is checked: a relation between instances. A relation to a part of the room ("a picture on the wall") is not; the
phrase is then answered as a whole. So is a phrase like "a man in a suit": "a", not "the", and no suit in the scene.
"The mug on the desk" says that there is a desk; without one the mug is not there. What the grammar does not cover is
left out, and the answer says so.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
