"""Embedding models in the admin: what is shown, and that superusers alone teach and switch."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from catalog import filling
from catalog.embedding_models import make_serving, serving_model
from catalog.models import Collection, Embedding, EmbeddingModel
from catalog.vision import registry
from search import tasks
from search.admin import models as models_admin
from search.switching import requests as switching_requests
from search.switching.requests import serve_on_request
from search.teaching import requests
from search.teaching.requests import Report, report, reported
from tests.catalog.admin.staff import take_redis_from, told
from tests.heads import taught_model
from tests.library import ready, squares
from tests.search.teaching.catalogue import label_images

pytestmark = pytest.mark.django_db
LIST = "admin:catalog_embeddingmodel_changelist"


@pytest.fixture
def root(shop: Collection) -> Client:
    cache.clear()
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


@pytest.fixture
def reader(shop: Collection) -> Client:
    """Staff who may see, add, change and delete models as far as permissions can say, and are no superuser."""
    user = User.objects.create_user("reader", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(content_type__model="embeddingmodel"))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture(autouse=True)
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[Any, ...]]]:
    """What was asked of the workers."""
    found: list[tuple[str, tuple[Any, ...]]] = []

    def note(name: str, *args: Any, **options: Any) -> None:
        found.append((name, (*args, *options.values())))

    for name in ("teach", "serve", "rebuild", "fill", "compare", "drop"):
        monkeypatch.setattr(getattr(tasks, name), "delay", partial(note, name))
    return found


def page(model: EmbeddingModel) -> str:
    return reverse("admin:catalog_embeddingmodel_change", args=[model.pk])


def serve_url(model: EmbeddingModel) -> str:
    return reverse("admin:search_serve", args=[model.pk])


def let_serve(client: Client, model: EmbeddingModel, instead_of: EmbeddingModel) -> Any:
    return client.post(serve_url(model), {"instead_of": str(instead_of.pk)}, follow=True)


def test_the_list_says_what_serves_and_how_the_taught_compare(root: Client) -> None:
    good, bad = taught_model(seed=1), taught_model(seed=2, passed=False)
    text = root.get(reverse(LIST)).content.decode()
    for words in (good.embedder, bad.embedder, "passed", "did not pass", "0.600 → 0.750", "serving"):
        assert words in text
    assert reverse("admin:search_teach") in text


def test_a_taught_models_page_shows_the_comparison_and_what_it_was_taught_on(root: Client) -> None:
    text = root.get(page(taught_model())).content.decode()
    for words in ("Passed the gate.", "It may serve: it is better.", "Held-out examples", "0.750", "hat", "never seen"):
        assert words in text
    assert "Let it serve" in text


def test_how_sure_a_comparison_is_and_how_many_tries_it_took_is_shown(root: Client) -> None:
    old, model = taught_model(seed=1, passed=False), taught_model(seed=2)
    model.teaching["labels"]["error"] = 0.0314
    model.save()
    text = root.get(page(model)).content.decode()
    assert "1 of 2 heads that were taught for image passed" in text and "0.031" in text
    assert "<td>-</td>" in root.get(page(old)).content.decode()


def test_a_failed_ones_page_says_why_and_has_no_button(root: Client) -> None:
    model = taught_model(passed=False)
    text = root.get(page(model)).content.decode()
    assert "Did not pass the gate." in text and "it forgets what it never saw" in text
    assert serve_url(model) not in text


def test_the_words_of_labels_are_escaped(root: Client) -> None:
    model = taught_model()
    model.teaching |= {"counts": {"<b>hat": 9}, "collection": "<i>shop"}
    model.save()
    text = root.get(page(model)).content.decode()
    assert "&lt;b&gt;hat" in text and "<b>hat" not in text and "<i>shop" not in text


def test_switching_asks_first_then_does_it_and_writes_it_down(root: Client, shop: Collection, sent: list[Any]) -> None:
    ready(shop, squares((10, 10, 40, "red")))
    base, model = serving_model("image"), taught_model()
    asked = root.get(serve_url(model)).content.decode()
    assert "in place of" in asked and str(base) in asked and "1 embedding is computed first" in asked
    assert serving_model("image") == base
    assert "serves image now" in told(let_serve(root, model, base))
    assert serving_model("image") == model
    assert sent[-1] == ("rebuild", (str(model.pk),))
    said = {entry.object_id: entry.change_message for entry in LogEntry.objects.filter(user__username="root")}
    assert said[str(model.pk)] == f"Made it serve image, instead of {base}."
    assert str(model) in said[str(base.pk)]
    assert "Go back to this one" in root.get(page(base)).content.decode()
    let_serve(root, base, model)
    assert serving_model("image") == base


def test_who_looked_at_another_state_is_asked_again(root: Client) -> None:
    base, first, second = serving_model("image"), taught_model(seed=1), taught_model(seed=2)
    make_serving(first)  # by somebody else, meanwhile
    answer = let_serve(root, second, base)
    assert "Nothing was changed" in told(answer)
    assert serving_model("image") == first


def test_much_to_compute_is_a_workers(
    root: Client, shop: Collection, sent: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models_admin, "AT_ONCE", 1)
    for place in (10, 20):
        ready(shop, squares((place, 10, 40, "red")))
    base, model = serving_model("image"), taught_model()
    assert "A worker computes 2 embeddings" in told(let_serve(root, model, base))
    assert serving_model("image") == base
    assert reported("image") == Report(busy="waiting for a worker", model=str(model.pk))
    (name, (key, user, seen)) = sent[-1]
    assert name == "serve"
    serve_on_request(model.pk, user, seen)  # as the worker does
    assert key == str(model.pk) and serving_model("image") == model
    assert reported("image") == Report(said=f"{model} serves now.", model=str(model.pk))


def test_a_switch_that_breaks_off_is_not_busy_for_an_hour(root: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    model = taught_model()
    report("image", Report(busy="waiting for a worker", model=str(model.pk)))

    def broken(*args: Any, **options: Any) -> None:
        raise RuntimeError("the disk is on fire")

    monkeypatch.setattr(switching_requests, "make_serving", broken)
    with pytest.raises(RuntimeError):
        serve_on_request(model.pk, None)
    said = reported("image")
    assert said is not None and not said.busy and said.went_wrong
    assert "worker's log says what" in said.said


def test_names_and_labels_of_other_peoples_collections_are_for_superusers(root: Client, reader: Client) -> None:
    model = taught_model()
    model.teaching |= {"collection": "the secret shop", "counts": {"hidden hat": 30, "shoe": 20}}
    model.save()
    text = reader.get(page(model)).content.decode()
    assert "Held-out examples" in text and "It may serve" in text
    assert "hidden hat" not in text and "secret shop" not in text
    text = root.get(page(model)).content.decode()
    assert "hidden hat" in text and "the secret shop" in text


def test_the_limits_that_results_are_marked_by_are_shown_before_they_change(root: Client) -> None:
    base, model = serving_model("image"), taught_model()
    for row, limits in ((base, (0.25, 0.5)), (model, (0.125, 0.375))):
        row.same_distance, row.near_distance = limits
        row.evaluation = {"n_pairs": 4321}
        row.save()
    text = root.get(serve_url(model)).content.decode()
    assert "now 0.2500 and 0.5000, from 4321 pairs, then 0.1250 and 0.3750, from 4321 pairs." in text
    assert "would not be marked" not in text
    EmbeddingModel.objects.filter(pk=model.pk).update(same_distance=None, near_distance=None)
    assert "its results would not be marked" in root.get(serve_url(model)).content.decode()


def test_what_a_taught_one_replaces_was_not_what_it_was_compared_with(root: Client) -> None:
    base, first, second = serving_model("image"), taught_model(seed=1), taught_model(seed=2)
    assert "compared with" not in root.get(serve_url(first)).content.decode()
    make_serving(first)
    text = root.get(serve_url(second)).content.decode()
    assert f"compared with {base}, not with the one that serves, {first}" in text
    assert text.count("0.600 → 0.750") == 2
    asked = root.get(reverse("admin:search_teach")).content.decode()
    assert f"image: {base.embedder}<" in asked and first.embedder not in asked


def test_what_did_not_pass_is_refused_at_its_address_too(root: Client) -> None:
    base, model = serving_model("image"), taught_model(passed=False)
    for answer in (root.get(serve_url(model), follow=True), let_serve(root, model, base)):
        assert "it forgets what it never saw" in told(answer)
    serve_on_request(model.pk, None)
    assert serving_model("image") == base
    report_ = reported("image")
    assert report_ is not None and report_.went_wrong


def test_a_login_on_the_way_changes_nothing(root: Client) -> None:
    base, model = serving_model("image"), taught_model()
    assert Client().post(serve_url(model), {"instead_of": str(base.pk)})["Location"].startswith("/admin/login/")
    assert serving_model("image") == base
    assert root.get(serve_url(model)).status_code == 200


def test_too_few_labels_are_said_before_a_worker_is_asked(root: Client, shop: Collection, sent: list[Any]) -> None:
    label_images(shop, classes=5, each=8)
    empty = Collection.objects.create(name="empty")
    form = {"pipeline": "image", "source": "labels"}
    for wrong in ({"source": "people"}, {"pipeline": "face"}, {"collection": str(empty.pk)}):
        text = root.post(reverse("admin:search_teach"), {**form, **wrong}).content.decode()
        assert "0 of 0 classes have at least 8 labelled examples" in text
    assert sent == []
    root.post(reverse("admin:search_teach"), form)
    assert len(sent) == 1


def test_teaching_is_asked_of_a_worker(root: Client, shop: Collection, sent: list[Any]) -> None:
    label_images(shop, classes=5, each=8)
    form = {"pipeline": "image", "source": "labels", "collection": str(shop.pk), "name": "My-Hats", "seed": "7"}
    answer = root.post(reverse("admin:search_teach"), form, follow=True)
    assert "as soon as one is free" in told(answer)
    user = User.objects.get(username="root").pk
    assert sent == [("teach", ("image", "labels", str(shop.pk), "my-hats", user, 7))]
    assert "waiting for a worker" in answer.content.decode()
    assert root.get(reverse("admin:search_teach_state")).json() == {"busy": ["waiting for a worker"]}
    assert "Asked to teach it from labels of shop." in LogEntry.objects.get().change_message


def test_who_asks_while_a_worker_is_busy_is_told_so(root: Client, shop: Collection, sent: list[Any]) -> None:
    label_images(shop, classes=5, each=8)
    form = {"pipeline": "image", "source": "labels"}
    root.post(reverse("admin:search_teach"), form)
    cache.delete(requests._claim_key("image"))  # as it is seconds later
    assert "already" in told(root.post(reverse("admin:search_teach"), form, follow=True))
    assert len(sent) == 1
    report("image", Report(said="done"))
    root.post(reverse("admin:search_teach"), form)
    assert len(sent) == 2


def test_of_two_who_ask_at_once_one_is_heard(root: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "reported", lambda pipeline: None)  # both looked before either said
    assert [requests.claim("image", Report(busy="asked")) for _ in range(2)] == [True, False]


@pytest.mark.parametrize(
    "field", [{"pipeline": "cats"}, {"source": "x"}, {"collection": "7"}, {"name": "päth"}, {"seed": "-1"}]
)
def test_what_cannot_be_taught_is_said_beside_the_field(root: Client, field: dict[str, str], sent: list[Any]) -> None:
    answer = root.post(reverse("admin:search_teach"), {"pipeline": "image", "source": "labels", **field})
    assert "vs-error" in answer.content.decode()
    assert sent == []


def test_without_redis_it_says_so(root: Client, shop: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    label_images(shop, classes=5, each=8)
    take_redis_from(tasks.teach, monkeypatch)
    answer = root.post(reverse("admin:search_teach"), {"pipeline": "image", "source": "labels"}, follow=True)
    assert "no worker hears of it" in told(answer)
    assert reported("image") in (None, Report())


def test_what_came_of_it_is_shown(root: Client) -> None:
    report("image", Report(said="4 of 4 classes have <too> few.", went_wrong=True))
    for name in (LIST, "admin:search_teach"):
        assert "4 of 4 classes have &lt;too&gt; few." in root.get(reverse(name)).content.decode()


def test_nobody_but_superusers_teaches_or_switches(reader: Client, sent: list[Any]) -> None:
    base, model = serving_model("image"), taught_model()
    assert reader.get(page(model)).status_code == 200
    assert "Let it serve" not in reader.get(page(model)).content.decode()
    assert reverse("admin:search_teach") not in reader.get(reverse(LIST)).content.decode()
    for name in ("search_teach", "search_teach_state"):
        assert reader.get(reverse(f"admin:{name}")).status_code == 403
    assert reader.post(reverse("admin:search_teach"), {"pipeline": "image", "source": "labels"}).status_code == 403
    assert reader.get(serve_url(model)).status_code == 403
    assert let_serve(reader, model, base).status_code == 403
    assert serving_model("image") == base and sent == []


def test_a_lost_head_is_said_on_its_page(root: Client) -> None:
    model = taught_model()
    for path in (registry.models_dir() / "heads").iterdir():
        path.unlink()
    text = root.get(page(model)).content.decode()
    assert "Its head is gone" in text
    assert serve_url(model) not in text


def test_filling_counts_only_what_is_lacking(root: Client, shop: Collection) -> None:
    ready(shop, squares((10, 10, 40, "red")))
    model = taught_model()
    filling.fill(model)
    assert "computed first" not in root.get(serve_url(model)).content.decode()
    assert Embedding.objects.filter(model=model).count() == 1
