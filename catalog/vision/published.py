"""Weights that others published for download: where they come from, whose they are, and which bytes were fetched.

Nothing is downloaded here, see `fetching`. A fetched file lies in VISEARCH_MODELS_DIR/weights beside a record of its
sha256, which the card of its network reads.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from catalog.vision.weights import LocalFile

FOLDER = "weights"
_SHA256 = re.compile("[0-9a-f]{64}")
_RELEASE = "https://github.com/rcmalli/keras-vggface/releases/download/v2.0"
_CHECKS = "catalog.vision.readers.vggface"


def pin(sha256: str) -> str:
    """``sha256`` in small letters. Raises ValueError where it is no such number."""
    found = str(sha256).strip().lower()
    if not _SHA256.fullmatch(found):
        raise ValueError(f"sha256 must be 64 digits of 0-9 and a-f, not {sha256!r}")
    return found


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a fetched file. ``origin``: the address it came from, or what somebody had at hand."""

    name: str
    file: str
    sha256: str
    size: int
    origin: str
    licence: str
    fetched_at: str


@dataclass(frozen=True, slots=True)
class Published:
    """One published file of weights, by the name of the embedder that needs it.

    ``licence`` is the short form, ``rights`` tells all that is known of it and from where. ``check`` is the dotted path
    of a function that takes the file's bytes and raises UnreadableWeights unless they are these weights.
    """

    name: str
    file: str
    url: str
    licence: str
    rights: str
    check: str

    def path(self, models_dir: Path) -> Path:
        return models_dir / FOLDER / self.file

    def record_path(self, models_dir: Path) -> Path:
        return self.path(models_dir).with_suffix(".json")

    def record(self, models_dir: Path) -> Record | None:
        """What was fetched, or None. Raises ValueError where the record is damaged, OSError where it cannot be read."""
        try:
            content = json.loads(self.record_path(models_dir).read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            record = Record(**content)
        except TypeError as error:
            raise ValueError(str(error)) from error
        pin(record.sha256)
        return record

    def source(self, models_dir: Path, pinned: str = "") -> LocalFile:
        """The fetched file at ``pinned`` (sha256), else at what was recorded, else at "", which cannot be read.

        Never fails: what is wrong is said when the file is read.
        """
        try:
            record = self.record(models_dir)
        except (OSError, ValueError):
            record = None
        return LocalFile(
            name=self.name,
            path=str(self.path(models_dir)),
            sha256=pinned or (record.sha256 if record else ""),
            licence=self.licence,
            url=self.url,
            remedy=f"run `manage.py models fetch {self.name}`.",
        )


# keras-vggface's README says of these files only "Check Oxford Webpage for the license of the original models"; its own
# code is MIT. Oxford's pages could not be read by us (those of VGGFace2 are gone: ox-vgg/vgg_face2, issue 52), so what
# follows rests on what others report of them.
_UNVERIFIED = "not verified by us; look it up before use"
_VGGFACE2_RIGHTS = (
    "Converted by keras-vggface (its code: MIT), whose README refers to Oxford for the rights in the weights. Oxford's "
    "page could not be read by us. Those who used VGGFace2 report that it gave it under CC BY-SA 4.0, and an author is "
    "reported to have said that the models have the same licence (github.com/WeidiXie/Keras-VGGFace2-ResNet50, issue "
    "2); copies of the data elsewhere say CC BY-NC 4.0. Look it up before use. Whether these weights saw MS-Celeb-1M "
    "first, which Microsoft withdrew, is not said."
)
_VGGFACE_RIGHTS = (
    "Converted by keras-vggface (its code: MIT), whose README refers to Oxford for the rights in the weights; until "
    "2017 it said that they can be used for non-commercial research purposes. Oxford's page "
    "(robots.ox.ac.uk/~vgg/software/vgg_face) could not be read by us; others report that it gives VGG-Face under "
    "CC BY-NC 4.0. Not for commercial use, then. Look it up before use."
)

PUBLISHED: dict[str, Published] = {
    item.name: item
    for item in (
        Published(
            "vggface2-resnet50",
            "rcmalli_vggface_tf_notop_resnet50.h5",
            f"{_RELEASE}/rcmalli_vggface_tf_notop_resnet50.h5",
            f"reported as CC BY-SA 4.0 ({_UNVERIFIED})",
            _VGGFACE2_RIGHTS,
            f"{_CHECKS}.check_resnet50",
        ),
        Published(
            "vggface2-senet50",
            "rcmalli_vggface_tf_notop_senet50.h5",
            f"{_RELEASE}/rcmalli_vggface_tf_notop_senet50.h5",
            f"reported as CC BY-SA 4.0 ({_UNVERIFIED})",
            _VGGFACE2_RIGHTS,
            f"{_CHECKS}.check_senet50",
        ),
        Published(
            "vggface-vgg16",
            "rcmalli_vggface_tf_notop_vgg16.h5",
            f"{_RELEASE}/rcmalli_vggface_tf_notop_vgg16.h5",
            f"reported as CC BY-NC 4.0 ({_UNVERIFIED})",
            _VGGFACE_RIGHTS,
            f"{_CHECKS}.check_vgg16",
        ),
    )
}
