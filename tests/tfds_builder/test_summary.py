import json

from tfds_builder import summary
from tfds_builder.processing import Processed


def pictures() -> list[tuple[str, str, Processed]]:
    """(split, name, result): more odd ones than are named, in two splits, some unreadable."""
    made = []
    for number in range(40):
        odd = ("greyscale",) if number % 2 else ()
        result = Processed(data=bytes([number]), digest=bytes([number]) * 32, odd=odd, rung="simplejpeg")
        if number % 7 == 3:
            result = Processed(data=None, odd=("unreadable",), reason=f"broken {number}")
        made.append(("train" if number < 25 else "test", f"{number}.jpg", result))
    return made


def tally(part: list[tuple[str, str, Processed]]) -> summary.Tally:
    made = summary.Tally()
    for split, name, result in part:
        made.add(split, name, 1, 0, "", result)
    return made


def test_tallies_of_parts_that_went_through_json_merge_to_the_tally_of_all():
    made, whole = pictures(), summary.Tally()
    for start in range(0, len(made), 6):
        part = tally(made[start : start + 6])
        again = summary.Tally.of_json(json.loads(json.dumps(part.to_json())))
        assert again == part
        whole.merge(again)
    assert whole == tally(made)
    assert json.dumps(whole.metadata()) == json.dumps(tally(made).metadata())  # in the same order, too
    assert len(whole.metadata()["odd_pictures"]["greyscale"]["first"]) == 10
