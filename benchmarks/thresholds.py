"""Measure a model's *same* and *near* distances on labelled images and write its evaluation.

    python -m benchmarks.thresholds face ../shared/data/faces/celebrities5/train --data "what these images are"

The folder holds one folder per label. Images in which not exactly one region is found are left out (which of several
faces the label means is not known). Over all pairs of images:

- *same*: the largest distance at which at most 1 in 100 pairs of different labels would be taken for the same
- *near*: the same for 1 in 10

The evaluation is written beside the code (catalog/vision/evaluations/EMBEDDER.json) and holds for one fingerprint only.
"""

from __future__ import annotations

import argparse
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import django
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

FALSE_MATCH_SAME = 0.01
FALSE_MATCH_NEAR = 0.10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline", choices=["face", "image"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", required=True, help="what the images are, for the record")
    arguments = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "visearch_site.settings")
    django.setup()

    from catalog.vision import registry

    embedder = registry.pipeline(arguments.pipeline).embedders[0]
    metric = _metric(arguments.pipeline)
    vectors, labels = _vectors(arguments.folder, arguments.pipeline, embedder)
    same, different = _pair_distances(vectors, labels, metric)
    distances = {
        "same": round(float(np.quantile(different, FALSE_MATCH_SAME)), 4),
        "near": round(float(np.quantile(different, FALSE_MATCH_NEAR)), 4),
    }
    evaluation = {
        "fingerprint": registry.fingerprint(embedder),
        "metric": metric,
        **distances,
        "data": f"{arguments.data}: {len(labels)} images of {len(set(labels))} labels",
        "n_pairs": len(same) + len(different),
        "date": datetime.now(UTC).date().isoformat(),
        "method": f"false match rates {FALSE_MATCH_SAME} and {FALSE_MATCH_NEAR} over all pairs (benchmarks/thresholds)",
    }
    path = registry.EVALUATIONS_DIR / f"{embedder}.json"
    path.write_text(json.dumps(evaluation, indent=2) + "\n")
    print(json.dumps(evaluation, indent=2))
    for name, limit in distances.items():
        share = float(np.mean(same <= limit))
        print(f"{share:.3f} of {len(same)} pairs of one label are within {name}; {len(different)} pairs of two")


def _metric(pipeline: str) -> str:
    from django.conf import settings

    return str(settings.VISEARCH_INDEXES[pipeline]["METRIC"])


def _vectors(folder: Path, pipeline: str, embedder: str) -> tuple[NDArray[np.float32], list[str]]:
    from catalog.folders import files_in
    from catalog.vision import registry
    from catalog.vision.decode import read_image
    from catalog.vision.extract import extract

    vectors, labels = [], []
    for path in tqdm(files_in(folder), unit="image"):
        with path.open("rb") as file:
            regions = extract(read_image(file, path.name, registry.limits()), [pipeline]).regions
        if len(regions) == 1:
            vectors.append(regions[0].vectors[embedder])
            labels.append(path.parent.name)
    return np.stack(vectors), labels


def _pair_distances(
    vectors: NDArray[np.float32], labels: list[str], metric: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distances of all pairs of one label, and of all pairs of two."""
    from search.engines.types import Metric
    from search.engines.vectors import exact_distances

    names = np.array(labels)
    same, different = [], []
    for row in range(len(vectors) - 1):
        distances = exact_distances(vectors[row + 1 :], vectors[row], Metric(metric))
        alike = names[row + 1 :] == names[row]
        same.append(distances[alike])
        different.append(distances[~alike])
    return np.concatenate(same), np.concatenate(different)


if __name__ == "__main__":
    main()
