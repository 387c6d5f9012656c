"""Masks of videos: each frame is segmented as a picture of its own, or with those before it; files and refusals."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from clips import HEIGHT, WIDTH, write_clip
from PIL import Image
from typer.testing import CliRunner, Result

from goca import Segmenter
from goca.cli import app
from goca.maps.temporal import TemporalAverage
from goca.video import read_frames
from goca.video.segmenting import segment_video
from goca.video.writing import VideoWriter

TIMES = (0.0, 0.04, 0.1, 0.4)


@pytest.fixture(scope="module")
def segmenter(dit_folder: Path) -> Segmenter:
    return Segmenter.from_pretrained(str(dit_folder), device="cpu")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", TIMES)


def labels_of(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]


def test_the_labels_of_each_frame_are_those_of_the_picture(segmenter: Segmenter, clip: Path, tmp_path: Path) -> None:
    steps: list[int] = []
    saved = segment_video(
        segmenter, clip, "cat,sky", tmp_path / "out", seed=3, progress=lambda done, total: steps.append(done)
    )
    assert saved.frames == 4 and steps == [1, 2, 3, 4]
    expected = [segmenter(frame.image, "cat,sky", seed=3) for frame in read_frames(clip)]
    for found, result in zip(labels_of(saved.files["labels"]), expected, strict=True):
        assert np.array_equal(found, result.labels)
    content = json.loads(saved.files["json"].read_text())
    assert [each["time"] for each in content["frames"]] == list(TIMES)
    assert [each["areas"] for each in content["frames"]] == [result.areas for result in expected]
    assert [each["name"] for each in content["classes"]] == ["cat", "sky"]
    overlay = list(read_frames(saved.files["overlay"]))
    assert [round(frame.time, 3) for frame in overlay] == list(TIMES)
    assert overlay[0].image.size == tuple(side * (overlay[0].image.width // WIDTH) for side in (WIDTH, HEIGHT))
    assert saved.areas == pytest.approx(
        {name: np.mean([result.areas[name] for result in expected]) for name in ("cat", "sky")}
    )


def test_frames_as_files_of_any_format(segmenter: Segmenter, clip: Path, tmp_path: Path) -> None:
    saved = segment_video(segmenter, clip, "cat,sky", tmp_path / "out", every=2, formats="labels,coco")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "annotations.json",
        "clip-000000_labels.png",
        "clip-000002_labels.png",
    ]
    assert saved.frames == 2 and list(saved.files) == ["coco"]
    frames = list(read_frames(clip))
    labels = np.asarray(Image.open(tmp_path / "out/clip-000002_labels.png"))
    assert np.array_equal(labels, segmenter(frames[2].image, "cat,sky").labels)


def test_one_batch_of_frames_is_decoded_at_a_time(segmenter: Segmenter, clip: Path) -> None:
    decoded: list[int] = []

    def images() -> Iterator[Image.Image]:
        for frame in read_frames(clip):
            decoded.append(frame.index)
            yield frame.image

    results = segmenter.stream(images(), "cat,sky", batch_size=2)
    next(results)
    assert decoded == [0, 1]
    assert len(list(results)) == 3


def test_the_average_is_that_of_the_maps(segmenter: Segmenter, clip: Path) -> None:
    images = [frame.image for frame in read_frames(clip)]
    alone = list(segmenter.stream(images, "cat,sky"))
    for found, result in zip(segmenter.stream(images, "cat,sky", temporal=0.0), alone, strict=True):
        assert np.array_equal(found.maps, result.maps)
    for size in (1, 3):
        averaged = list(segmenter.stream(images, "cat,sky", temporal=0.75, batch_size=size))
        mean = averaged[0].maps
        assert np.allclose(mean, alone[0].maps, atol=1e-3)
        for found, result in zip(averaged[1:], alone[1:], strict=True):
            mean = 0.75 * mean + 0.25 * result.maps
            assert np.allclose(found.maps, mean, atol=1e-3)
    with pytest.raises(ValueError, match=r"temporal is a finite number from 0 to 0\.99, not 1"):
        segmenter.stream(images, "cat,sky", temporal=1.0)


def test_the_average_starts_anew_with_other_classes(segmenter: Segmenter, clip: Path) -> None:
    image = next(read_frames(clip)).image
    average, texts = TemporalAverage(0.9), (["cat", "sky"], ["dog"])
    method = segmenter.resolve()
    for names in texts:
        (found,) = segmenter.segment_batch([image], [segmenter.prompt(names)], method, average=average)
        assert np.array_equal(found.maps, segmenter(image, names).maps)


def test_odd_sizes_are_kept_in_the_labels(segmenter: Segmenter, tmp_path: Path) -> None:
    from fractions import Fraction

    with av.open(str(tmp_path / "odd.mkv"), "w") as container:
        stream = container.add_stream("ffv1")
        stream.width, stream.height, stream.pix_fmt = 33, 25, "bgr0"
        stream.codec_context.time_base = Fraction(1, 1000)
        frame = av.VideoFrame.from_ndarray(np.full((25, 33, 3), 90, np.uint8), format="rgb24")
        container.mux(stream.encode(frame.reformat(format="bgr0")))
        container.mux(stream.encode(None))
    saved = segment_video(segmenter, tmp_path / "odd.mkv", "cat,sky", tmp_path / "out")
    (labels,) = labels_of(saved.files["labels"])
    assert labels.shape == (25, 33)
    assert not any(side % 2 for side in next(read_frames(saved.files["overlay"])).image.size)


def test_frames_of_another_size_are_refused(tmp_path: Path) -> None:
    image = np.zeros((4, 4), np.uint8)
    with (
        pytest.raises(ValueError, match="change their size"),
        VideoWriter(tmp_path / "a.mkv", "ffv1", "gray") as writer,
    ):
        writer.add(Image.fromarray(image), 0.0)
        writer.add(Image.fromarray(image[:2]), 0.1)


def test_nothing_is_left_of_a_video_that_fails_late(
    segmenter: Segmenter, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add, count = VideoWriter.add, iter(range(3))

    def full(self: VideoWriter, picture: Image.Image, time: float) -> None:
        if next(count, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        add(self, picture, time)

    monkeypatch.setattr(VideoWriter, "add", full)
    with pytest.raises(OSError, match=r"cannot write to the folder .*No space left on device"):
        segment_video(segmenter, clip, "cat,sky", tmp_path / "out")
    monkeypatch.undo()
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".goca*"))
    segment_video(segmenter, clip, "cat,sky", tmp_path / "out")
    with pytest.raises(FileExistsError, match=r"clip_labels\.mkv exists already"):
        segment_video(segmenter, clip, "cat,sky", tmp_path / "out")
    assert segment_video(segmenter, clip, "cat,sky", tmp_path / "out", overwrite=True).frames == 4


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["segment", *(str(word) for word in words)])


def test_the_command(clip: Path, dit_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = (clip, "--classes", "cat,sky", "--model", dit_folder, "--out", out, "--temporal", 0.5, "--every", 2)
    result = run(*words, "--format", "video,labels", "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["frames"] == 2 and set(answer["files"]) == {"labels", "overlay", "json"}
    assert all(Path(path).is_file() for path in answer["files"].values())
    assert (out / "clip-000002_labels.png").is_file()
    assert "exists already" in run(*words).stderr
    said = run(*words, "--overwrite")
    assert said.exit_code == 0 and "2 frames: cat" in said.stdout and "clip_overlay.mp4" in said.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("bad.mp4",), "bad.mp4 cannot be decoded as a video"),
        (("gone.mp4",), "no such video file"),
        (("clip.mp4", "a.png"), "one video at a time"),
        (("clip.mp4", "--resume"), "leave them out"),
        (("clip.mp4", "--format", "vidio"), "unknown format 'vidio' (did you mean 'video'?)"),
        (("a.png", "--every", "2"), "belong to videos"),
    ],
)
def test_refusals(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.mp4").write_bytes(b"no video")
    Image.new("RGB", (9, 9)).save("a.png")
    result = run(*words, "--classes", "cat,sky")
    assert result.exit_code == 2 and message in result.stderr and result.stdout == ""
    assert not Path("goca-out").exists()
