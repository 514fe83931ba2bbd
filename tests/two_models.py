"""Two models of one pipeline in real processes, queries in a loop, and whose every answer was.

Small networks by settings alone (VISEARCH_MODELS_FILE); what an answer should have been is computed here from the
vectors in the database, in numpy, without any code of the product.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import requests
from numpy.typing import NDArray

from tests.catalog.vision.exported import hashed, options_of
from tests.stack import Stack, wait_for

ONE, TWO = "net-one", "net-two"
OTHERS = """
[detectors.squares]
BACKEND = "tests.fakes.ColourSquares"
[embedders.face-colours]
BACKEND = "tests.fakes.MeanColour"
[embedders.digit-colours]
BACKEND = "tests.fakes.MeanColour"
[pipelines.face]
DETECTOR = "squares"
EMBEDDERS = ["face-colours"]
[pipelines.digit]
DETECTOR = "frame"
EMBEDDERS = ["digit-colours"]
"""


def models_file(folder: Path) -> Path:
    """Settings with the pipeline `image` served by ONE, and TWO beside it; nothing else needs weights."""
    folder.mkdir()
    tables = [OTHERS]
    for name, dimension in ((ONE, 16), (TWO, 24)):
        path = folder / f"{name}.onnx"
        path.write_bytes(hashed(dimension))
        given = options_of(path, dimension=dimension)
        lines = "\n".join(f"{key} = {_toml(value)}" for key, value in given.items())
        backend = "catalog.vision.embedders.onnx_file.OnnxEmbedder"
        tables.append(f'[embedders.{name}]\nBACKEND = "{backend}"\n[embedders.{name}.OPTIONS]\n{lines}')
    tables.append(f'[pipelines.image]\nDETECTOR = "frame"\nEMBEDDERS = ["{ONE}", "{TWO}"]')
    file = folder / "models.toml"
    file.write_text("\n".join(tables))
    return file


def _toml(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def second_web(stack: Stack, logs: Path) -> Stack:
    """Another web process of the same site, with a port of its own. Stop it at the end."""
    logs.mkdir()
    other = Stack(env=stack.env, database_url=stack.database_url, logs=logs)
    other.start_web()
    return other


# --- Queries in a loop ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """One query and its answer; seconds are time.time(). ``results``: image and distance, nearest first."""

    web: int
    began: float
    ended: float
    image: str
    status: int
    model: str
    generation: str | None
    results: tuple[tuple[str, float], ...]


@dataclass
class Loop:
    """Asks every web process for what is like one stored image after the other, until it is stopped."""

    webs: Sequence[Stack]
    images: Sequence[str]
    k: int = 10
    asked: list[Asked] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def _ask(self, web: int, offset: int) -> None:
        session, url = requests.Session(), f"{self.webs[web].url}/api/v1/search/"
        number = offset
        while not self._over.is_set():
            image = self.images[number % len(self.images)]
            number += 1
            began = time.time()
            body = {"image_id": image, "pipeline": "image", "k": self.k, "beyond_near": True}
            try:
                answer = session.post(url, json=body, timeout=30)
            except requests.RequestException as error:
                self.failed.append(f"{type(error).__name__} of web {web}")
                continue
            self.asked.append(_noted(web, began, image, answer))

    def of(self, web: int) -> list[Asked]:
        """Those of one process, in the order in which they began."""
        return sorted((each for each in self.asked if each.web == web), key=lambda each: each.began)

    def wait_for(self, model: str, after: float) -> None:
        """Until each process has answered with this model a query that began after this moment."""
        wait_for(
            f"answers of {model}",
            lambda: all(
                any(each.began > after and each.model.startswith(model) for each in self.of(web))
                for web in range(len(self.webs))
            ),
        )


def _noted(web: int, began: float, image: str, answer: requests.Response) -> Asked:
    said: dict[str, Any] = answer.json() if answer.ok else {}
    results = tuple((each["image"]["id"], float(each["distance"])) for each in said.get("results", []))
    return Asked(
        web, began, time.time(), image, answer.status_code, said.get("model", ""), said.get("generation"), results
    )


@contextmanager
def looping(webs: Sequence[Stack], images: Sequence[str], threads: int = 2) -> Iterator[Loop]:
    """``threads`` for each process ask meanwhile."""
    loop = Loop(webs, images)
    running = [
        threading.Thread(target=loop._ask, args=(web, 7 * number), daemon=True)
        for web in range(len(webs))
        for number in range(threads)
    ]
    for thread in running:
        thread.start()
    try:
        yield loop
    finally:
        loop._over.set()
        for thread in running:
            thread.join(60)


# --- What they should have been ---------------------------------------------------------------------------------------


def vectors_of(stack: Stack, embedder: str) -> dict[str, NDArray[np.float64]]:
    """By image: unit vectors of the pipeline `image`, whose index compares by cosine."""
    rows = stack.sql(
        "SELECT r.image_id::text, e.vector FROM catalog_embedding e JOIN catalog_region r ON r.id = e.region_id"
        " JOIN catalog_embeddingmodel m ON m.id = e.model_id WHERE m.embedder = %s",
        embedder,
    )
    found = {image: np.frombuffer(bytes(data), "<f4").astype(np.float64) for image, data in rows}
    return {image: vector / np.linalg.norm(vector) for image, vector in found.items()}


def models_that_fit(asked: Asked, vectors: Mapping[str, Mapping[str, NDArray[np.float64]]]) -> list[str]:
    """The embedders by whose vectors every distance of this answer is what it says, to 1e-5."""
    return [
        name
        for name, of_images in vectors.items()
        if all(abs(1 - of_images[asked.image] @ of_images[image] - said) < 1e-5 for image, said in asked.results)
    ]


def late_by(loop: Loop, moment: float, model: str, until: float) -> list[float]:
    """Per process, how long after ``moment`` the last query began that was answered by another model, or 0.0.

    Only what began after ``moment`` and before ``until`` counts.
    """
    return [
        max(
            (
                each.began - moment
                for each in loop.of(web)
                if moment < each.began < until and not each.model.startswith(model)
            ),
            default=0.0,
        )
        for web in range(len(loop.webs))
    ]


def switched_at(stack: Stack, retired: str) -> float:
    """The moment that the row of the model that ceased to serve says, in seconds of time.time()."""
    [(moment,)] = stack.sql(
        "SELECT extract(epoch FROM retired_at)::float8 FROM catalog_embeddingmodel WHERE embedder = %s", retired
    )
    return float(moment)
