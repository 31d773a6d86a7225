"""Rules for the values of a COCO json.

The training or the evaluation would fail on other values without naming the entry.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Entry = dict[str, Any]

_INTEGER_LIMIT = 2**63  # PyTorch and the evaluation read 64 bits
_BOX_LIMIT = 2**62  # so that x + width fits too
_SIZE_LIMIT = 2**31
_NUMBERS = {int, float}  # a bool is none


class Rule(NamedTuple):
    """Rule for an entry, or for the value of one of its keys.

    Attributes:
        kind: name for programs of the error, in snake_case.
        what: the entries that break the rule, in the plural.
        predicate: what is wrong, with ``{}`` for the value.
        is_valid: tells whether a value is allowed.
        key: of the value; empty for the whole entry.
        default: value where an entry lacks the key.
    """

    kind: str
    what: str
    predicate: str
    is_valid: Callable[[Any], bool]
    key: str = ""
    default: Any = None

    def values(self, entries: list[Entry]) -> list[Any]:
        """Return the value of each entry."""
        key, default = self.key, self.default
        return [entry.get(key, default) for entry in entries] if key else entries


def reference_rule(key: str, index_of: Mapping[int, int]) -> Rule:
    """Make the rule that a key of an annotation holds one of the known ids."""
    return Rule(
        f"unknown_{key}",
        f"annotations whose {key} the json does not list",
        f"has the unknown {key} {{}}",
        lambda value: type(value) is int and value in index_of,
        key,
    )


def _is_id(value: object, lowest: int = 0) -> bool:
    return type(value) is int and lowest <= value < _INTEGER_LIMIT


def _is_encodable(value: object) -> bool:
    """Tell whether a value is a text without half of a surrogate pair."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def _is_side(value: object) -> bool:
    return type(value) is int and 0 < value < _SIZE_LIMIT


def _is_category(entry: Entry) -> bool:
    return _is_id(entry.get("id")) and _is_encodable(entry.get("name"))


def _is_image(entry: Entry) -> bool:
    name = entry.get("file_name")
    sides = entry.get("width"), entry.get("height")
    return (
        _is_id(entry.get("id"))
        and isinstance(name, str)
        and name != ""
        and all(map(_is_side, sides))
    )


def _is_box(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 4 or not _NUMBERS.issuperset(map(type, value)):
        return False
    x, y, width, height = map(abs, value)
    return x < _BOX_LIMIT and y < _BOX_LIMIT and width < _BOX_LIMIT and height < _BOX_LIMIT


def _is_area(value: Any) -> bool:
    return value is None or (type(value) in _NUMBERS and 0 <= value < math.inf)


CATEGORY_RULE = Rule(
    "bad_category",
    "categories without an integer 'id' and a 'name'",
    "needs an integer 'id' of 0 or more and a 'name', not {}",
    _is_category,
)
IMAGE_RULE = Rule(
    "bad_image",
    "images without an integer 'id', a 'file_name' or a size",
    "needs an integer 'id' of 0 or more, a 'file_name' and a positive 'width' and 'height', not {}",
    _is_image,
)


def _optional(
    key: str, expected: str, is_valid: Callable[[Any], bool], default: Any = None
) -> Rule:
    """Make the rule of a key that an annotation may lack."""
    what, predicate = f"annotations with an unusable '{key}'", f"has the {key} {{}} instead of "
    return Rule(f"bad_{key}", what, predicate + expected, is_valid, key, default)


ANNOTATION_RULES = (
    Rule(
        "bad_annotation_id",
        "annotations without an integer 'id'",
        "needs an integer 'id'",
        lambda value: _is_id(value, lowest=-_INTEGER_LIMIT),
        "id",
    ),
    Rule(
        "bad_box",
        "annotations whose bbox is not 4 finite numbers",
        "has the bbox {} instead of 4 finite numbers",
        _is_box,
        "bbox",
    ),
    _optional("iscrowd", "0 or 1", lambda value: value in (0, 1), default=0),
    _optional("area", "a number of 0 or more", _is_area),
    Rule(
        "marked_ignore",
        "annotations that are marked 'ignore'",
        "is marked 'ignore': mark it 'iscrowd' or take it out",
        lambda value: value == 0,
        "ignore",
        default=0,
    ),
)


def rotation_of(annotation: Entry) -> float:
    """Return the rotation that an annotation states, as CVAT does in ``attributes``, or 0."""
    attributes = annotation.get("attributes")
    for place in (annotation, attributes if isinstance(attributes, dict) else {}):
        for key in ("rotation", "angle", "theta"):
            value: Any = place.get(key)
            if type(value) in _NUMBERS and math.isfinite(value):
                return float(value)
    return 0.0
