"""Measure a model's *same* and *near* distances on labelled images and write the evaluation that is shipped with it.

    python -m benchmarks.thresholds face ../shared/data/faces/celebrities5/train --data "what these images are"

The folder holds one folder per label. Over all pairs of images of two labels (search.evaluation.thresholds): *same* is
the largest distance at which at most 1 in 100 would be taken for the same, *near* the same for 1 in 10.

The evaluation is written beside the code (catalog/vision/evaluations/EMBEDDER.json) and holds for one fingerprint only.
`manage.py evaluate --save` does this for a model of one site, and says how well the thresholds do on images that they
were not chosen on.
"""

from __future__ import annotations

import argparse
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import django
from tqdm import tqdm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline", help="face, image ...")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", required=True, help="what the images are, for the record")
    arguments = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "visearch_site.settings")
    django.setup()

    from catalog.models import EmbeddingModel
    from catalog.vision import registry
    from search.engines.registry import configured_index
    from search.evaluation.folders import read_folder
    from search.evaluation.labelled import check_measurable
    from search.evaluation.thresholds import NEAR_RATE, SAME_RATE, choose

    about = registry.describe(registry.pipeline(arguments.pipeline).embedders[0])
    model = EmbeddingModel(pipeline=about.pipeline, embedder=about.name, dimension=about.dimension)  # never saved
    metric = configured_index(about.pipeline).metric
    with tqdm(unit="image") as bar:

        def on_file(done: int, total: int) -> None:
            bar.total, bar.n = total, done
            bar.refresh()

        reading = read_folder(arguments.folder, model, as_queries=False, on_file=on_file)
    check_measurable(reading)
    choice = choose(reading.labelled, metric)
    same, near = choice.at(SAME_RATE), choice.at(NEAR_RATE)
    if same is None or near is None:
        parser.error("There are too few pairs of two labels to choose thresholds by: 100 at least.")
    evaluation = {
        "fingerprint": about.fingerprint,
        "metric": metric.value,
        "same": round(same, 4),
        "near": round(near, 4),
        "data": f"{arguments.data}: {choice.images} images of {choice.labels} labels",
        "n_pairs": choice.pairs,
        "date": datetime.now(UTC).date().isoformat(),
        "method": f"false match rates {SAME_RATE} and {NEAR_RATE} over all pairs of two labels (benchmarks/thresholds)",
    }
    path = registry.EVALUATIONS_DIR / f"{about.name}.json"
    path.write_text(json.dumps(evaluation, indent=2) + "\n")
    print(json.dumps(evaluation, indent=2))
    for each in choice.thresholds:
        if each.distance is not None:
            interval = "none" if each.low is None else f"{each.low:.4f} to {each.high:.4f}"
            print(f"{each.rate:g}: {each.distance:.4f}, 95 % interval {interval}")


if __name__ == "__main__":
    main()
