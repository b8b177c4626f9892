"""What is found among many pictures of one name, and how much work that is."""

from collections.abc import Callable, Sequence

import pytest
from annotated import steps

from mixnmatch.data.layouts import lookup, pairs
from mixnmatch.data.layouts.listing import LayoutOptions, files_below
from mixnmatch.data.layouts.lookup import Lookup
from mixnmatch.data.layouts.pairs import pair


def paths(count: int, form: str) -> list[str]:
    return [form.format(number) for number in range(count)]


def find_all(pictures: Sequence[str], names: Sequence[str]) -> None:
    finder = Lookup(pictures)
    for name in names:
        try:
            finder.find(name, ("images",))
        except ValueError:
            assert name in ("image.jpg", "none.jpg")


@pytest.mark.parametrize(
    ("picture", "xml"),
    [
        ("{0}/image.jpg", "{0}/image.xml"),  # beside each other
        ("{0}/images/image.jpg", "{0}/labels/image.xml"),  # at the same place
        ("images/{0}/image.jpg", "boxes/{0}/image.xml"),  # at none
        ("{0}/image.jpg", "{0}/{0}.xml"),
    ],
)
def test_pairing_takes_steps_in_proportion(picture: str, xml: str) -> None:
    def work(count: int) -> Callable[[], object]:
        named = dict.fromkeys(paths(count, xml), "image.jpg")
        return lambda: pair(named, paths(count, picture))

    assert steps(work(400), pairs) < 2.2 * steps(work(200), pairs)


@pytest.mark.parametrize(
    ("picture", "name"),
    [
        ("set/{}/image.jpg", "{}/image.jpg"),
        ("set/{}/images/image.jpg", "{}/images/image.jpg"),
        ("set/{}/image.jpg", "/another/machine/{}/image.jpg"),
        ("set/{}/image.jpg", "image.jpg"),
        ("set/{}/image.jpg", "none.jpg"),
    ],
)
def test_looking_up_takes_steps_in_proportion(picture: str, name: str) -> None:
    def work(count: int) -> Callable[[], object]:
        return lambda: find_all(paths(count, picture), paths(count, name))

    assert steps(work(400), lookup) < 2.2 * steps(work(200), lookup)


def test_many_of_one_name_are_still_told_apart() -> None:
    named = {f"{n}/labels/image.xml": "image.jpg" for n in range(30)}
    found, problems = pair(named, [f"{n}/images/image.jpg" for n in range(29)])
    assert found == {f"{n}/labels/image.xml": f"{n}/images/image.jpg" for n in range(29)}
    assert list(problems) == ["29/labels/image.xml"]
    assert problems["29/labels/image.xml"].startswith("its picture may be 0/images/image.jpg or 1/")


def test_the_end_of_a_path_is_of_whole_names() -> None:
    folders = ("a/b/x.jpg", "ab/x.jpg", "c/bb/x.jpg", "d/y.jpg", "e/y.jpg", "f/y.jpg")
    finder = Lookup([*folders, "y.jpg"])
    assert finder.find("b/x.jpg", ()) == "a/b/x.jpg"
    assert finder.find("/set/ab/x.jpg", ()) == "ab/x.jpg"
    assert finder.find("y.jpg", ("d",)) == "d/y.jpg"
    with pytest.raises(ValueError, match=r"may be any of a/b/x\.jpg, ab/x\.jpg, c/bb/x\.jpg$"):
        finder.find("x.jpg", ())
    with pytest.raises(ValueError, match=r"may be any of .* and others$"):
        finder.find("y.jpg", ())
    for absent in ("", "/", "jpg", ".jpg", "z/x.jpg"):
        with pytest.raises(ValueError, match=r"no such file below the source$"):
            finder.find(absent, ())


@pytest.mark.parametrize("written", ["", ".", "./", "/", "//", "./."])
def test_the_source_itself_is_a_folder_of_pictures(written: str) -> None:
    assert LayoutOptions(image_folder=written).image_folder == ""
    assert files_below(["a.jpg", "b/c.jpg"], "") == ["a.jpg", "b/c.jpg"]


@pytest.mark.parametrize("written", ["a/b", "a/b/", "/a/b", "./a//b//", "a/./b"])
def test_a_folder_of_pictures_may_be_written_in_many_ways(written: str) -> None:
    assert LayoutOptions(image_folder=written).image_folder == "a/b"
