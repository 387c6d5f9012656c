"""Which images are meant, and what is looked for in each."""

from __future__ import annotations

from pathlib import Path

import pytest

from goca.image_files import find_images
from goca.image_texts import ImageText, read_classes_file, read_texts, texts_of


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("b.jpg", "a.PNG", "deep/c.webp", ".hidden/d.png", "notes.md", "deep/.e.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.txt").write_text("photos/b.jpg\n\n  photos/deep/c.webp\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (["photos"], ["photos/a.PNG", "photos/b.jpg", "photos/deep/c.webp"]),
        (["photos/*.jpg"], ["photos/b.jpg"]),
        (["photos/**/*.webp"], ["photos/deep/c.webp"]),
        (["list.txt", "photos/a.PNG"], ["photos/b.jpg", "photos/deep/c.webp", "photos/a.PNG"]),
        (["photos/b.jpg", "photos", "./photos/b.jpg"], ["photos/b.jpg", "photos/a.PNG", "photos/deep/c.webp"]),
        (["gone.png"], ["gone.png"]),
    ],
)
def test_sources(photos: Path, sources: list[str], expected: list[str]) -> None:
    assert [Path(path).as_posix() for path in find_images(sources)] == expected


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("empty", "empty holds no images"),
        ("photos/*.gif", "no file matches 'photos/\\*.gif'"),
        ("bad.txt", "names 'gone.png', but .* is no file"),
        ("blank.txt", "names no image"),
        ("binary.txt", "no text in UTF-8"),
    ],
)
def test_sources_without_images_are_refused(photos: Path, source: str, message: str) -> None:
    (photos / "bad.txt").write_text("gone.png")
    (photos / "blank.txt").write_text("\n")
    (photos / "binary.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ValueError, match=message):
        find_images([source])


def test_captions_name_the_classes(tmp_path: Path) -> None:
    path = tmp_path / "captions.json"
    path.write_text('{"a.png": {"caption": "(person, clothes), chair, person"}, "b.png": {"caption": "sky, a dog"}}')
    texts = read_texts(path)
    assert texts["a.png"] == ImageText(("person|clothes", "chair"), "person, clothes, chair")
    assert texts["b.png"].classes == ("sky", "dog")
    assert read_texts(path, "dog|puppy, chair, sky")["b.png"] == ImageText(("dog|puppy", "sky"), "sky, a dog")


def test_tables_name_classes_or_captions(tmp_path: Path) -> None:
    path = tmp_path / "images.csv"
    path.write_text('image,classes,caption\na.png,"cat, sofa",\nb.png,,"a dog, grass"\nc.png,dog,a dog on a lawn\n')
    assert read_texts(path) == {
        "a.png": ImageText(("cat", "sofa")),
        "b.png": ImageText(("dog", "grass"), "dog, grass"),
        "c.png": ImageText(("dog",), "a dog on a lawn"),
    }
    for content, message in (
        ("image\na.png\n", "needs a row of titles"),
        ("image,classes\na.png,\n", "row 2 of .* has no image, no classes"),
        ("image,classes\na.png,cat\na.png,dog\n", "named before"),
        ("", "needs a row of titles"),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            read_texts(path)


def test_texts_and_images_must_be_the_same() -> None:
    texts = {"a.png": ImageText(("cat",)), "x/b.png": ImageText(("dog",))}
    assert texts_of(["photos/a.png", "x/b.png"], texts) == list(texts.values())
    with pytest.raises(ValueError, match=r"1 images have no entry in the list of classes or captions: c\.png"):
        texts_of(["a.png", "x/b.png", "c.png"], texts)
    with pytest.raises(ValueError, match=r"1 entries of the list fit no image of classes or captions: x/b\.png"):
        texts_of(["a.png"], texts)


def test_classes_file(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_text("\ufeff# ours\ncat\n\n person|man \n", encoding="utf-8")
    assert read_classes_file(path) == ["cat", "person|man"]
    path.write_text("# none\n")
    with pytest.raises(ValueError, match="names no class"):
        read_classes_file(path)
