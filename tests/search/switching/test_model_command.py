"""`manage.py model`: the whole way of a model, from its registration to its end."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from pytest_django.fixtures import Settings

from catalog.embedding_models import make_serving, serving_model
from catalog.models import Collection, Embedding, EmbeddingModel, Image
from catalog.vision import registry
from search import tasks
from search.indexing import rebuild_index
from search.models import EvaluationRun
from search.switching import background
from search.switching.background import fill_a_while
from tests.heads import taught_model
from tests.library import ready, squares

pytestmark = pytest.mark.django_db
COLOURS = ("red", "blue", "yellow")


@pytest.fixture
def images(shop: Collection) -> list[Image]:
    """Three of each of three labels."""
    return [
        ready(shop, squares((10 + 7 * number, 10 + 5 * label, 40, colour)), label=colour)
        for label, colour in enumerate(COLOURS)
        for number in range(3)
    ]


@pytest.fixture(autouse=True)
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    for name in ("fill", "rebuild"):
        monkeypatch.setattr(getattr(tasks, name), "delay", lambda *args, name=name: found.append(name))
    return found


def run(*arguments: str) -> None:
    call_command("model", *arguments)


def test_the_whole_way_of_a_model(
    images: list[Image], settings: Settings, sent: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    first = serving_model("image")
    settings.VISEARCH_EMBEDDERS = {**settings.VISEARCH_EMBEDDERS, "other": {"BACKEND": "tests.beside.Darkness"}}
    settings.VISEARCH_PIPELINES = {
        **settings.VISEARCH_PIPELINES,
        "image": {"DETECTOR": "frame", "EMBEDDERS": ["image-colours", "other"]},
    }
    run("register")
    other = EmbeddingModel.objects.get(embedder="other")
    assert f"New embedding model: {other} (image, building)" in capsys.readouterr().out

    run("fill", "other")
    assert "has 0 of 9 embeddings" in capsys.readouterr().out and sent == ["fill"]
    run("list", "--pipeline", "image")
    said = capsys.readouterr().out
    assert f"building  other  {other.fingerprint[:12]}" in said and "waiting for a worker, 0 of 9" in said
    fill_a_while()

    run("compare", "other", "--collection", "shop")
    said = capsys.readouterr().out
    assert "P@10" in said and "ROC AUC" in said and "standard error" in said
    runs = EvaluationRun.objects.order_by("id")
    assert [each.embedding_model for each in runs] == [first, other]

    run("serve", "other")
    assert serving_model("image") == other
    assert f"{other} serves image now, instead of {first}" in capsys.readouterr().out
    run("back", "--pipeline", "image")
    assert serving_model("image") == first
    capsys.readouterr()
    run("list")
    assert "9 of 9 embeddings, no index, the way back\n          kept up to date" in capsys.readouterr().out

    run("retire", "other")
    other.refresh_from_db()
    assert (other.state, other.fill) == ("retired", "")
    run("drop", "other")
    said = capsys.readouterr().out
    assert "would be dropped with 9 embeddings" in said and "It is the way back" in said and "--yes and --force" in said
    assert Embedding.objects.filter(model=other).count() == 9
    with pytest.raises(CommandError, match="It is the way back of image"):
        run("drop", "other", "--yes")
    run("drop", "other", "--yes", "--force")
    assert "is dropped, with 9 embeddings" in capsys.readouterr().out
    assert not EmbeddingModel.objects.filter(embedder="other").exists()
    run("register")  # the settings name it still
    assert EmbeddingModel.objects.get(embedder="other").embeddings.count() == 0


def test_an_index_is_built_before_the_switch_where_exact_search_would_be_slow(
    images: list[Image], other: EmbeddingModel, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.switching.ready.EXACT_IS_QUICK", 5)
    run("serve", "other")
    assert other.generations.get(status="published").count == 9
    assert sent == []


def test_a_way_back_with_an_index_asks_for_none(images: list[Image], other: EmbeddingModel, sent: list[str]) -> None:
    rebuild_index(serving_model("image"))
    run("serve", "other")
    assert sent == ["rebuild"]
    run("back", "--pipeline", "image")
    assert sent == ["rebuild"]


def test_back_now_leaves_the_rest_to_workers(
    shop: Collection, images: list[Image], other: EmbeddingModel, sent: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    first = make_serving(other)
    ready(shop, squares((100, 10, 40, "black")))
    run("back", "--pipeline", "image", "--now")
    assert serving_model("image") == first
    assert "is found when workers have computed" in capsys.readouterr().out
    assert "fill" in sent
    fill_a_while()
    assert Embedding.objects.filter(model=first).count() == 10
    fill_a_while()
    assert serving_model("image").fill == ""  # uploads fill what serves


def test_a_model_can_be_named_by_its_fingerprint(other: EmbeddingModel) -> None:
    run("retire", other.fingerprint[:12])
    other.refresh_from_db()
    assert other.state == "retired"
    EmbeddingModel.objects.create(
        pipeline="image", embedder="other", fingerprint="0" * 64, dimension=8, licence="x", source="x"
    )
    with pytest.raises(CommandError, match=r"'other' is more than one of the models: other .*, other 0000"):
        run("retire", "other")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["list", "--pipeline", "cats"], "No embedding model is registered for the pipeline 'cats'"),
        (["fill", "image-colours"], "serves image: uploads fill it"),
        (["fill", "nobody"], "'nobody' is none of the models"),
        (["retire", "image-colours"], "serves image. Let another model serve first"),
        (["drop", "image-colours", "--yes", "--force"], "serves image. Let another model serve first"),
        (["back", "--pipeline", "image"], "No other model has served this pipeline yet"),
        (["compare", "image-colours", "--collection", "shop"], "would be compared with itself"),
        (
            ["compare", "other", "--with", "face-colours", "--collection", "shop"],
            "'face-colours' is none of the models",
        ),
        (["compare", "other", "--collection", "x"], "There is no collection 'x'"),
        (["compare", "other", "--collection", "shop"], "of 9 images none is left"),
        (["compare", "other", "--collection", "shop", "--queries", "/tmp"], "go with --folder"),
        (["compare", "other", "--folder", "/nowhere"], "/nowhere is no folder"),
    ],
)
def test_it_refuses_in_a_sentence(images: list[Image], other: EmbeddingModel, arguments: list[str], says: str) -> None:
    with pytest.raises(CommandError, match=says):
        run(*arguments)
    assert serving_model("image").embedder == "image-colours"


def test_folders_are_compared_by_both_networks(
    images: list[Image], other: EmbeddingModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for colour in COLOURS:
        (tmp_path / "all" / colour).mkdir(parents=True)
        for number in range(4):
            (tmp_path / "all" / colour / f"{number}.png").write_bytes(squares((10 + 9 * number, 30, 60, colour)))
    run("compare", "other", "--folder", str(tmp_path / "all"))
    said = capsys.readouterr().out
    assert [line.split()[1:3] for line in said.splitlines() if line.startswith("queries")] == [["12", "12"]]


# --- Dropping ---------------------------------------------------------------------------------------------------------


def test_the_base_of_a_head_that_serves_is_not_dropped(images: list[Image], other: EmbeddingModel) -> None:
    base, head = serving_model("image"), taught_model()
    make_serving(head)
    with pytest.raises(CommandError, match=f"{head}, which serves image, was taught on {base}"):
        run("drop", base.embedder, "--yes", "--force")


def test_a_base_takes_its_heads_along_when_it_is_forced(images: list[Image], other: EmbeddingModel) -> None:
    base, head = serving_model("image"), taught_model()
    make_serving(head)
    rebuild_index(head)
    make_serving(other)
    folder = Path(registry.models_dir()) / "heads"
    indexes = [path.name for path in Path(registry.settings.VISEARCH_INDEXES_DIR).iterdir()]
    assert len(list(folder.iterdir())) == 2 and indexes == [f"image-{head.fingerprint[:12]}"]
    with pytest.raises(CommandError, match="cannot be used without it, and go, too"):
        run("drop", base.embedder, "--yes")
    assert Embedding.objects.filter(model=base).count() == 9
    run("drop", base.embedder, "--yes", "--force")
    assert not EmbeddingModel.objects.filter(pk__in=[base.pk, head.pk]).exists()
    assert list(folder.iterdir()) == []
    assert list(Path(registry.settings.VISEARCH_INDEXES_DIR).iterdir()) == []
    assert Embedding.objects.filter(model=other).count() == 9


def test_what_other_hosts_fetch_goes_too(
    images: list[Image], other: EmbeddingModel, settings: Settings, tmp_path: Path
) -> None:
    depot = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(tmp_path / "depot")}}
    settings.STORAGES = {**settings.STORAGES, "indexes": depot}
    make_serving(other)
    rebuild_index(other)
    first = EmbeddingModel.objects.get(embedder="image-colours")
    rebuild_index(first)
    kept = f"image-{other.fingerprint[:12]}"
    files = [path for path in (tmp_path / "depot").rglob("*") if path.is_file()]
    assert {path.relative_to(tmp_path / "depot").parts[0] for path in files} > {kept}
    run("drop", first.embedder, "--yes", "--force")
    files = [path for path in (tmp_path / "depot").rglob("*") if path.is_file()]
    assert {path.relative_to(tmp_path / "depot").parts[0] for path in files} == {kept}


def test_where_the_storage_is_away_the_rest_goes_and_the_doctor_removes_what_is_left(
    images: list[Image], other: EmbeddingModel, settings: Settings, tmp_path: Path
) -> None:
    def far(backend: str) -> None:
        place = {"BACKEND": backend, "OPTIONS": {"location": str(tmp_path / "far")}}
        settings.STORAGES = {**settings.STORAGES, "indexes": place}

    far("django.core.files.storage.FileSystemStorage")
    background.ask(other)
    fill_a_while()
    rebuild_index(other)
    far("tests.fakes.StorageAway")
    run("drop", other.embedder, "--yes")
    assert not EmbeddingModel.objects.filter(pk=other.pk).exists()
    assert list(Path(settings.VISEARCH_INDEXES_DIR).iterdir()) == []
    far("django.core.files.storage.FileSystemStorage")
    assert list((tmp_path / "far").iterdir())
    call_command("doctor", "--fix", stdout=StringIO())
    assert list((tmp_path / "far").iterdir()) == []
