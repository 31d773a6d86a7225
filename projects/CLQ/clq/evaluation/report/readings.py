"""Say in a sentence or two what to read from each figure, on the run at hand.

Each function takes the facts that `measure` returns, or a part of them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

Facts = Mapping[str, Any]

UNDEFINED = "–"
ERROR_NAMES = {
    "classification": "objects given another class",
    "localization": "boxes that fit too loosely",
    "both": "boxes that fit too loosely and have another class",
    "duplicate": "second detections of an object",
    "background": "detections where there is no object",
    "missed": "objects that nothing overlaps",
}
_SIZES = {"s": "small", "m": "medium", "l": "large"}
_NEAR_BEST = 0.01  # of F1
_STRONG = 0.5  # suspicion


def number(value: float | None, digits: int = 1) -> str:
    """Format a number, or a dash for one that is undefined."""
    return UNDEFINED if value is None else f"{value:.{digits}f}"


def percent(share: float | None) -> str:
    """Format a share as percent."""
    return UNDEFINED if share is None else f"{100 * share:.0f} %"


def counted(count: int, noun: str, plural: str = "") -> str:
    """Format a count with its noun."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def read_metrics(facts: Facts) -> str:
    ap, images = facts["metrics"]["AP"], facts["counts"]["images"]
    if ap["value"] is None:
        return "There is no object to find, so that no metric is defined."
    if ap["low"] == ap["high"]:  # of one image, or both None
        return (
            f"AP is {number(ap['value'])}. {counted(images, 'image')} can't tell how far it varies."
        )
    spread = max(ap["value"] - ap["low"], ap["high"] - ap["value"])
    return (
        f"AP is {number(ap['value'])}. With other images of the same kind it would lie between "
        f"{number(ap['low'])} and {number(ap['high'])} in 95 of 100 cases: with "
        f"{counted(images, 'image')}, a difference of less than {number(spread)} may be chance."
    )


def read_thresholds(curve: Facts, best: Facts | None) -> str:
    if not best:
        return "No detection finds an object, so that no threshold is better than another."
    near = [
        score
        for score, f1 in zip(curve["score"], curve["f1"], strict=True)
        if f1 is not None and f1 >= best["f1"] - _NEAR_BEST
    ]
    sentence = (
        f"Of the detections that score at least {best['score']:.2f}, {percent(best['precision'])} "
        f"are right, and they find {percent(best['recall'])} of the objects: the best balance, "
        f"with an F1 of {number(best['f1'], 2)}."
    )
    if len(near) < 2:
        return sentence
    return (
        f"{sentence} Between {near[0]:.2f} and {near[-1]:.2f} it is nearly as good: take the lower "
        "end to find more objects, the upper end for fewer false alarms."
    )


def read_classes(facts: Facts) -> str:
    rows = sorted(
        (row for row in facts["ap_by_class"] if row["AP"] is not None), key=lambda row: row["AP"]
    )
    absent = len(facts["ap_by_class"]) - len(rows)
    note = f" {counted(absent, 'class has', 'classes have')} no object here." if absent else ""
    if not rows:
        return "No class has an object here."
    low, high = rows[0], rows[-1]
    if len(rows) == 1:
        return f"There is one class with objects, {low['name']}: AP {number(low['AP'])}.{note}"
    if low["AP"] == high["AP"]:
        return f"All classes with objects have AP {number(low['AP'])}.{note}"
    return (
        f"{low['name']} suffers most, with AP {number(low['AP'])} on "
        f"{counted(low['objects'], 'object')}; {high['name']} is best with {number(high['AP'])}."
        f"{note}"
    )


def read_sizes(metrics: Facts) -> str:
    values = {name: metrics[f"AP{key}"]["value"] for key, name in _SIZES.items()}
    known = {name: value for name, value in values.items() if value is not None}
    absent = [name for name in values if name not in known]
    note = f" There are no {' or '.join(absent)} objects." if absent else ""
    if len(known) < 2:
        return f"All objects with an AP are of one size.{note}" if known else note.strip()
    worst, best = min(known, key=known.__getitem__), max(known, key=known.__getitem__)
    if known[worst] == known[best]:
        return f"Objects of all sizes have AP {number(known[best])}.{note}"
    return (
        f"{worst.capitalize()} objects suffer most, with AP {number(known[worst])}; {best} ones "
        f"have {number(known[best])}.{note}"
    )


def read_ious(ap_by_iou: Sequence[Facts]) -> str:
    at = {round(point["iou"], 2): point["AP"] for point in ap_by_iou}
    loose, strict = at[0.5], at[0.75]
    if not loose or strict is None:
        return "At IoU 0.5 nothing is found, so that there is no curve to read."
    kept = strict / loose
    if kept > 0.7:
        verdict = "what is found has boxes that fit"
    elif kept > 0.4:
        verdict = "many boxes fit loosely"
    else:
        verdict = "most boxes are rough"
    return (
        f"AP falls from {number(loose)} where half an overlap is enough to {number(strict)} at IoU "
        f"0.75 and {number(at[0.95])} at 0.95: {verdict}."
    )


def read_errors(errors: Facts) -> str:
    costs = {name: value for name, value in errors["delta_ap"].items() if value}
    ranked = sorted(costs, key=lambda name: -costs[name])
    if not ranked:
        return "No kind of error, mended alone, would raise AP50."
    first = f"Most is lost to {ERROR_NAMES[ranked[0]]}: {number(costs[ranked[0]])} points of AP50"
    if len(ranked) == 1:
        return f"{first}."
    return f"{first}; then to {ERROR_NAMES[ranked[1]]}, {number(costs[ranked[1]])}."


def read_confusion(facts: Facts) -> str:
    matrix, names = facts["confusion"]["matrix"], facts["class_names"]
    background = len(names)
    missed = sum(row[background] for row in matrix[:background])
    false = sum(matrix[background][:background])
    sentence = (
        f"At scores of at least {facts['confusion']['score']:.2f}, the detector misses {missed:,} "
        f"of {counted(facts['counts']['objects'], 'object')}; {counted(false, 'detection')} "
        f"{'is' if false == 1 else 'are'} false."
    )
    if background == 1:
        return sentence
    mixed = [(matrix[t][p], t, p) for t in range(background) for p in range(background) if t != p]
    count, truth, predicted = max(mixed, default=(0, 0, 0))
    if not count:
        return f"{sentence} No class is taken for another."
    return (
        f"{sentence} Among classes, {names[truth]} is taken for {names[predicted]} most often: "
        f"{counted(count, 'time')}."
    )


def read_reliability(calibration: Facts, key: str) -> str:
    error = calibration[f"error_{key}"]
    if error is None:
        return "There is no detection to read a score from."
    what = {"iou": "the IoU that its box reaches", "correct": "the share that is right"}[key]
    filled = [b for b in calibration["bins"] if b["count"]]
    gap = sum(b["count"] * (b["score"] - b[key]) for b in filled)
    direction = "too high" if gap > 0 else "too low"
    verdict = f"mostly {direction}" if error >= 0.05 else "close to what it says"
    return f"A score differs from {what} by {error:.2f} on average, and is {verdict}."


def read_ranking(calibration: Facts) -> str:
    headroom, correlation = calibration["headroom"], calibration["rank_correlation"]
    if headroom["AP"] is None or headroom["AP_by_iou"] is None:
        return "There is nothing to rank."
    ranked = (
        f"If the same boxes were ranked by the IoU that they truly reach, AP would be "
        f"{number(headroom['AP_by_iou'])} instead of {number(headroom['AP'])}"
    )
    realised = headroom["realised"]
    share = f": the score realises {percent(realised)} of what its boxes allow" if realised else ""
    if correlation is None:
        return f"{ranked}{share}."
    return f"{ranked}{share}. The rank correlation of score and IoU is {number(correlation, 2)}."


def read_suspects(suspects: Sequence[Facts]) -> str:
    if not suspects:
        return "No label looks wrong."
    strong = [suspect for suspect in suspects if suspect["score"] >= _STRONG]
    if not strong:
        return (
            f"No suspect reaches a suspicion of {_STRONG}; of the weaker ones, the strongest come "
            "first."
        )
    counts = {kind: sum(s["kind"] == kind for s in strong) for kind in SUSPECT_NAMES}
    parts = [f"{count:,} {SUSPECT_NAMES[kind]}" for kind, count in counts.items() if count]
    return (
        f"{counted(len(strong), 'suspect reaches', 'suspects reach')} a suspicion of {_STRONG}: "
        f"{', '.join(parts)}. The strongest come first; look at them before you trust the numbers "
        "above."
    )


SUSPECT_NAMES = {
    "missing": "perhaps not labelled",
    "class": "perhaps of another class",
    "box": "perhaps with a wrong box",
    "spurious": "perhaps no object",
}
