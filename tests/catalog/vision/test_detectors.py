"""The real detectors."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from django.conf import settings
from PIL import Image
from PIL.Image import Image as PILImage

from catalog.vision import preprocess
from catalog.vision.cards import Context, MtcnnOptions, NoOptions
from catalog.vision.detectors.frame import Frame
from catalog.vision.detectors.mtcnn import Mtcnn, suppressed
from catalog.vision.protocols import Detector
from catalog.vision.types import Box, Detection
from tests.catalog.vision.contract import DetectorContract

SAMPLES = Path(__file__).resolve().parents[3] / "catalog" / "samples" / "leaders"


def small(path: Path) -> PILImage:
    with Image.open(path) as image:
        return preprocess.capped(image.convert("RGB"), preprocess.DETECTION_SIDE)


class TestFrame(DetectorContract):
    @pytest.fixture
    def detector(self) -> Detector:
        return Frame(Context(Path("unused"), 1), NoOptions())

    @pytest.fixture
    def image(self) -> PILImage:
        return Image.new("RGB", (64, 48))

    def test_the_frame_is_the_one_region(self, detector: Detector, image: PILImage) -> None:
        assert detector.detect(image) == [Detection(Box(0, 0, 64, 48), 1.0)]


@pytest.mark.models
class TestMtcnn(DetectorContract):
    @pytest.fixture
    def detector(self, built_models: Path) -> Detector:
        return Mtcnn(Context(built_models, 1), MtcnnOptions(**settings.VISEARCH_DETECTORS["mtcnn"]["OPTIONS"]))

    @pytest.fixture
    def image(self) -> PILImage:
        return small(SAMPLES / "Barack Obama" / "portrait-2012.jpg")

    def test_a_portrait_has_one_face_with_its_points_in_place(self, detector: Detector, image: PILImage) -> None:
        (face,) = detector.detect(image)
        assert face.score > 0.95 and face.landmarks
        left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks
        assert left_eye[0] < nose[0] < right_eye[0]
        assert left_mouth[0] < right_mouth[0]
        assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])
        assert all(face.box.x < x < face.box.right and face.box.y < y < face.box.bottom for x, y in face.landmarks)

    def test_opencv_has_no_more_threads_than_a_network(self, built_models: Path) -> None:
        before = cv2.getNumThreads()
        try:
            for threads in (2, 1):
                Mtcnn(Context(built_models, threads), MtcnnOptions())
                assert cv2.getNumThreads() == threads
        finally:
            cv2.setNumThreads(before)

    def test_a_flat_image_has_no_face(self, detector: Detector) -> None:
        assert detector.detect(Image.new("RGB", (640, 480), "grey")) == []

    def test_faces_smaller_than_asked_for_are_not_found(self, built_models: Path, image: PILImage) -> None:
        face = Mtcnn(Context(built_models, 1), MtcnnOptions()).detect(image)[0]
        least = round(4 * max(face.box.width, face.box.height))
        assert Mtcnn(Context(built_models, 1), MtcnnOptions(min_face_px=least)).detect(image) == []

    def test_a_face_cut_by_the_frame_has_its_box_clipped(self, detector: Detector, image: PILImage) -> None:
        (face,) = detector.detect(image)
        within = round(face.box.x + face.box.width * 0.15)
        (cut,) = detector.detect(image.crop((within, 0, image.width, image.height)))
        assert cut.box.x == 0
        assert cut.box.right == pytest.approx(face.box.right - within, abs=20)

    def test_the_largest_face_comes_first(self, detector: Detector, photos: Path) -> None:
        faces = detector.detect(small(photos / "faces" / "leaders" / "groups" / "kit_with_rose.jpg"))
        sizes = [face.box.area for face in faces]
        assert len(faces) == 2 and sizes == sorted(sizes, reverse=True)

    def test_faces_are_found_in_real_photos(self, detector: Detector, photos: Path) -> None:
        files = sorted((photos / "faces" / "celebrities5" / "val").rglob("*.jpg"))
        missed = [file for file in files if not detector.detect(small(file))]
        assert len(files) == 25 and missed == []


def test_suppression_keeps_the_best_of_what_overlaps() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10], [22, 2, 28, 8]], float)
    scores = np.array([0.7, 0.9, 0.8, 0.6])
    assert suppressed(boxes, scores, 0.5).tolist() == [1, 2, 3]
    assert suppressed(boxes, scores, 0.5, over_smaller=True).tolist() == [1, 2]
    assert suppressed(np.empty((0, 4)), np.empty(0), 0.5).tolist() == []


def test_suppression_is_the_packages_also_where_there_is_much_to_suppress() -> None:
    """A box that overlaps a better one goes, also if that one goes itself: said once more, one pair after the other."""
    random = np.random.default_rng(5)
    corners, scores = random.uniform(0, 400, (600, 2)), random.uniform(0, 1, 600)
    boxes = np.concatenate([corners, corners + random.uniform(20, 80, (600, 2))], axis=1)
    kept = []
    for row in np.argsort(-scores):
        better = [
            Box(*boxes[other][:2], *(boxes[other][2:] - boxes[other][:2]))
            for other in np.nonzero(scores > scores[row])[0]
        ]
        mine = Box(*boxes[row][:2], *(boxes[row][2:] - boxes[row][:2]))
        if all(mine.iou(other) <= 0.5 for other in better):
            kept.append(int(row))
    assert 50 < len(kept) < 550
    assert suppressed(boxes, scores, 0.5).tolist() == kept
