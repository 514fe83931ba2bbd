"""A folder of labelled images, PATH/LABEL/file, as the site would take it: decoded, detected, embedded by extract()."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from catalog.intake.folders import files_in
from catalog.models import EmbeddingModel
from catalog.regions import FACE
from catalog.vision import helper, registry
from catalog.vision.errors import ImageRefused
from catalog.vision.extract import BATCH, extract_many
from catalog.vision.types import DecodedImage, ExtractedRegion
from search.engines.durable import sha256_of
from search.evaluation.labelled import Item, Labelled, LabelsAre, LeftOut, Missed, Reading

OnFile = Callable[[int, int], None]  # how many files are done, of how many


def read_folder(folder: Path, model: EmbeddingModel, *, as_queries: bool, on_file: OnFile) -> Reading:
    """Every file below ``folder``, whose label is the name of the first folder on its way.

    In an image with several faces nothing says which one the label means: as queries the first is taken, which is what
    a search takes by itself; in the catalogue the image is left out. A file that is there twice counts once. What
    cannot be read, or has no label, is left out and named. Raises ModelUnavailable.
    """
    files = files_in(folder)
    gathered = _Gathered(folder, model, as_queries)
    for start in range(0, len(files), BATCH):
        gathered.add(files[start : start + BATCH])
        on_file(min(start + BATCH, len(files)), len(files))
    return gathered.reading(len(files))


@dataclass
class _Gathered:
    """What was read so far."""

    folder: Path
    model: EmbeddingModel
    as_queries: bool
    vectors: list[NDArray[np.float32]] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    missed: list[Missed] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    seen: dict[str, str] = field(default_factory=dict)  # sha256 to the name of the first file that has it

    def add(self, files: Sequence[Path]) -> None:
        self._extract([(path, image, digest) for path in files for image, digest in self._opened(path)])

    def _extract(self, opened: Sequence[tuple[Path, DecodedImage, str]]) -> None:
        """All at once; where the model can do nothing with one of them, one by one."""
        choice = {self.model.pipeline: [self.model.embedder]}
        try:
            found = extract_many([(image, [self.model.pipeline]) for _, image, _ in opened], choice)
        except ImageRefused as error:
            if len(opened) == 1:
                self._leave_out(self._name(opened[0][0]), str(error))
                return
            for one in opened:
                self._extract([one])
            return
        for (path, _, digest), extraction in zip(opened, found, strict=True):
            self._take(path, digest, extraction.regions)

    def reading(self, images: int) -> Reading:
        dimension = self.model.dimension
        vectors = np.stack(self.vectors) if self.vectors else np.empty((0, dimension), np.float32)
        return Reading(
            what=f"the folder {printable(self.folder.name or str(self.folder))}",
            labels_are=LabelsAre.FOLDERS,
            images=images,
            labelled=Labelled(vectors, tuple(self.items)),
            missed=tuple(self.missed),
            left_out=tuple(self.left_out),
        )

    def _opened(self, path: Path) -> list[tuple[DecodedImage, str]]:
        """The image and the sha256 of its file; none for what is left out."""
        name = self._name(path)
        if path.is_symlink() or not path.is_file():
            return self._leave_out(name, "it is not a regular file, or its folder cannot be read")
        if path.parent == self.folder:
            return self._leave_out(name, "it lies in no folder that would be its label")
        try:
            digest = sha256_of(path)
            if digest in self.seen:
                return self._leave_out(name, f"it is the same file as {self.seen[digest]}")
            with path.open("rb") as file:
                image = helper.read_image(file, printable(path.name), registry.limits())
        except ImageRefused as error:
            return self._leave_out(name, str(error))
        except OSError as error:
            return self._leave_out(name, f"it cannot be read ({error.strerror})")
        self.seen[digest] = name
        return [(image, digest)]

    def _leave_out(self, name: str, reason: str) -> list[tuple[DecodedImage, str]]:
        self.left_out.append(LeftOut(name, reason))
        return []

    def _take(self, path: Path, digest: str, regions: Sequence[ExtractedRegion]) -> None:
        name = self._name(path)
        if not regions:
            self.missed.append(Missed(name, self._label(path)))
            return
        if len(regions) > 1 and not self.as_queries:
            self._leave_out(name, f"it shows {len(regions)} faces, and nothing says which one its label means")
            return
        region = regions[0]
        box = region.detection.box if self.model.pipeline == FACE else None
        self.items.append(Item(str(path), name, self._label(path), digest, box))
        self.vectors.append(region.vectors[self.model.embedder])

    def _label(self, path: Path) -> str:
        return printable(path.relative_to(self.folder).parts[0])

    def _name(self, path: Path) -> str:
        return printable(str(path.relative_to(self.folder)))


def printable(name: str) -> str:
    """A name of a file as text that can be kept and shown: bytes that are no UTF-8 become question marks."""
    return os.fsencode(name).decode(errors="replace")
