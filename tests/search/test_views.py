"""The page, as a shopper without JavaScript meets it, on images of squares (tests.fakes): a colour is a face."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Group, User
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django_redis import get_redis_connection  # type: ignore[import-untyped]
from pytest_django import DjangoAssertNumQueries, Settings
from rest_framework.throttling import SimpleRateThrottle

from catalog.models import Collection, EmbeddingModel, Image, Person
from tests.drawn import BAD_FILES
from tests.library import ready, squares
from tests.search.vectors import store

pytestmark = pytest.mark.django_db
RED, BLUE = squares((20, 30, 40, "red")), squares((90, 60, 50, "blue"))
TWO_FACES = squares((5, 5, 60, "red"), (120, 60, 40, "blue"))
GREY = squares()


@pytest.fixture(autouse=True)
def fresh_cache() -> None:
    cache.delete_pattern("*")  # type: ignore[attr-defined]  # throttles and labels


def put_in(data: bytes, name: str = "query.png", client: Client | None = None, **fields: Any) -> Any:
    return (client or Client()).post("/search/", {"image": SimpleUploadedFile(name, data), **fields})


def html(response: Any, status: int = 200) -> str:
    assert response.status_code == status, response.content.decode()[:2000]
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    return str(response.content.decode())


def found(page: str) -> list[str]:
    """Ids of the images whose cards are shown, in order."""
    return re.findall(r'<a class="card-image" href="/images/([0-9a-f-]{36})/"', page)


def ids(*images: Image) -> list[str]:
    return [str(image.pk) for image in images]


def picks(page: str) -> dict[str, str]:
    """Name to address of what can be searched with."""
    return {name: unescape(href) for href, name in re.findall(r'<a class="pick" href="([^"]+)"[^>]*>([^<]+)</a>', page)}


def address(page: str) -> str:
    """Where this result can be had again, without the photo."""
    shown = re.search(r'data-address="([^"]+)"', page)
    assert shown, page
    return unescape(shown[1])


def link(page: str, words: str) -> str:
    shown = re.search(rf'href="([^"]+)"[^>]*>{words}</a>', page)
    assert shown, page
    return unescape(shown[1])


def words(page: str) -> list[str]:
    return re.findall(r'<p class="word \w+">([^<]+)</p>', page)


def measured(pipeline: str, same: float | None, near: float | None) -> None:
    EmbeddingModel.objects.filter(pipeline=pipeline).update(same_distance=same, near_distance=near)


def viewer_of(collection: Collection) -> Client:
    group = Group.objects.create(name=f"viewers of {collection}")
    collection.viewers.add(group)
    user = User.objects.create_user(f"viewer of {collection}")
    user.groups.add(group)
    client = Client()
    client.force_login(user)
    return client


# --- Putting a photo in -----------------------------------------------------------------------------------------------


def test_the_first_page_asks_for_one_thing_and_says_that_nothing_is_kept(shop: Collection) -> None:
    page = html(Client().get("/"))
    assert page.count("<h1") == 1
    assert re.search(r'<input type="file" name="image" accept="image/\*[^"]*"', page)
    assert 'capture="environment"' in page
    assert "Your photo is not kept" in page
    assert '<option value="shop">shop</option>' in page


def test_a_photo_is_answered_with_itself_its_faces_and_what_is_like_it(shop: Collection) -> None:
    red, _ = ready(shop, RED, label="4711", title="A red shoe"), ready(shop, BLUE)
    measured("face", 0.05, 0.2)
    page = html(put_in(TWO_FACES))
    assert '<img src="data:image/webp;base64,' in page
    assert re.findall(r'<rect class="(mark[^"]*)" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)"', page) == [
        ("mark on", "5.0", "5.0", "60.0"),
        ("mark", "120.0", "60.0", "40.0"),
    ]
    assert list(picks(page)) == ["Face 1", "Face 2", "Whole image"]
    assert found(page) == ids(red)
    assert "A red shoe" in page
    assert words(page) == ["the same photo"]
    assert re.search(r'<rect class="match" x="20.0" y="30.0" width="40.0" height="40.0"', page)


def test_another_face_and_the_whole_image_are_links_that_need_no_photo(shop: Collection) -> None:
    red, blue, two = ready(shop, RED), ready(shop, BLUE), ready(shop, TWO_FACES)
    measured("face", 0.05, 0.2)
    first = html(put_in(TWO_FACES))
    assert found(first) == ids(red, two)
    second = html(Client().get(picks(first)["Face 2"]))
    assert found(second) == ids(blue, two)
    assert "data:image" not in second
    assert "The photo itself is gone" in second
    assert '<rect class="mark on" x="120.0"' in second
    whole = html(Client().get(picks(first)["Whole image"]))
    assert found(whole)[0] == str(two.pk)
    assert 'class="match"' not in whole


def test_without_a_face_the_whole_image_is_searched_and_that_is_said(shop: Collection) -> None:
    grey = ready(shop, GREY)
    page = html(put_in(squares(size=(100, 100))))
    assert found(page) == ids(grey)
    assert "No face was found, so the whole image was searched with." in page


def test_where_faces_may_not_be_searched_none_is_looked_for(shop: Collection) -> None:
    image = ready(shop, RED)
    Collection.objects.update(face_search="staff")
    page = html(put_in(RED))
    assert found(page) == ids(image)
    assert 'class="mark' not in page.replace('class="marks"', "")
    assert "No face was found" not in page
    assert "Face 1" in html(put_in(RED, client=viewer_of(shop)))


def test_photos_are_in_no_cache(shop: Collection) -> None:
    response = put_in(RED)
    assert "no-store" in response.headers["Cache-Control"]
    assert "no-store" in Client().get(address(html(response))).headers["Cache-Control"]


def test_pages_are_kept_for_nobody_else_and_asked_for_again(shop: Collection) -> None:
    image = ready(shop, RED)
    region = image.regions.get(pipeline="face")
    for path in ("/", f"/search/image/{image.pk}/", f"/search/region/{region.pk}/", f"/images/{image.pk}/"):
        assert set(Client().get(path).headers["Cache-Control"].split(", ")) == {"private", "no-cache"}, path


def test_signing_in_and_choosing_a_language_lead_back_to_the_results(shop: Collection) -> None:
    page = html(put_in(RED))
    kept = address(page)
    assert re.findall(r'name="next" value="([^"]+)"', page) == [kept]
    assert link(page, "Sign in") == f"/login/?next={kept}"
    client = Client()
    assert "Ihr Foto" in html(client.post("/i18n/setlang/", {"language": "de", "next": kept}, follow=True))


def test_scripts_styles_and_images_come_from_here_alone(shop: Collection) -> None:
    image = ready(shop, RED)
    upload = put_in(RED)
    pages = [Client().get("/"), upload, Client().get(address(html(upload))), Client().get(f"/images/{image.pk}/")]
    for response in [*pages, Client().get("/nothing", headers={"Accept": "text/html"})]:
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        assert ("data:" in policy) == (response is upload)
        page = response.content.decode()
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)|(?:src|href)=\"(?:https?:)?//", page)


def test_a_form_needs_its_token(shop: Collection) -> None:
    strict = Client(enforce_csrf_checks=True)
    assert "open for too long" in html(put_in(RED, client=strict), 403)
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', html(strict.get("/")))
    assert token
    html(strict.post("/search/", {"csrfmiddlewaretoken": token[1], "image": SimpleUploadedFile("a.png", RED)}))


def test_the_address_of_the_form_alone_leads_to_the_form() -> None:
    response = Client().get("/search/")
    assert (response.status_code, response.headers["Location"]) == (302, "/")


# --- What it says no to -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "data", "status", "code"), BAD_FILES, ids=[each[0] for each in BAD_FILES])
def test_a_bad_file_is_a_sentence_beside_its_name(
    shop: Collection, name: str, data: bytes, status: int, code: str
) -> None:
    page = html(put_in(data, name), status)
    assert re.search(rf'<strong class="file">{re.escape(name)}</strong> [A-Z]', page)
    assert '<input type="file"' in page


def test_after_a_refusal_the_chosen_collection_and_label_are_still_chosen(shop: Collection) -> None:
    page = html(put_in(b"no image", collection="shop", label='red "4711"'), 415)
    chosen = dict(re.findall(r'<input type="hidden" name="(collection|label)" value="([^"]*)"', page))
    assert {name: unescape(value) for name, value in chosen.items()} == {"collection": "shop", "label": 'red "4711"'}
    assert 'value="gone"' not in html(put_in(RED, collection="gone"), 404)  # else it could never be searched on


def test_names_of_files_are_escaped(shop: Collection) -> None:
    page = html(put_in(b"no image", "<img src=x onerror=alert(1)>.png"), 415)
    assert "<img src=x" not in page
    assert "&lt;img src=x" in page


def test_more_bytes_than_a_file_may_have(shop: Collection, settings: Settings) -> None:
    settings.VISEARCH_LIMITS = {**settings.VISEARCH_LIMITS, "bytes": 1000}
    page = html(put_in(b"x" * (3 * 1024 * 1024), "large.jpg"), 413)
    assert "This file is too large" in page
    assert "1000" in page


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "No photo came with that"),
        ({"image": "a text"}, "No photo came with that"),
        ({"image": [SimpleUploadedFile("a.png", RED), SimpleUploadedFile("b.png", RED)]}, "several photos"),
    ],
)
def test_a_form_without_one_photo(shop: Collection, fields: dict[str, Any], says: str) -> None:
    assert says in html(Client().post("/search/", fields), 400)


def test_too_many_searches_are_counted_with_those_of_the_api(shop: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SimpleRateThrottle.THROTTLE_RATES, "search", "2/min")
    html(put_in(RED))
    assert Client().post("/api/v1/search/", {"image": SimpleUploadedFile("a.png", RED)}).status_code == 200
    response = put_in(RED)
    page = html(response, 429)
    assert f"Wait {response.headers['Retry-After']} seconds" in page


def test_looking_at_results_has_a_limit_of_its_own(shop: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    image = ready(shop, RED)
    region = image.regions.get(pipeline="face")
    kept = address(html(put_in(RED)))
    monkeypatch.setitem(SimpleRateThrottle.THROTTLE_RATES, "page", "2/min")
    for path in (kept, f"/search/image/{image.pk}/", f"/search/region/{region.pk}/", f"/images/{image.pk}/"):
        cache.delete_pattern("throttle_*")  # type: ignore[attr-defined]
        assert [Client().get(path).status_code for _ in range(3)] == [200, 200, 429], path
    assert "then search on" in html(Client().get(kept), 429)
    html(put_in(RED))  # photos are counted for themselves
    html(viewer_of(shop).get(kept))


def test_labels_of_anybody_are_counted_once_a_minute(
    shop: Collection, django_assert_num_queries: DjangoAssertNumQueries, take_redis_away: Callable[[], None]
) -> None:
    ready(shop, RED, label="before")
    suggested = '<option value="before">'
    assert suggested in html(Client().get("/"))
    with django_assert_num_queries(3):  # samples of collections, their images; names of collections
        assert suggested in html(Client().get("/"))
    Image.objects.update(label="after")
    assert '<option value="after">' in html(viewer_of(shop).get("/"))
    take_redis_away()
    assert '<option value="after">' in html(Client().get("/"))


def test_a_server_without_models_says_so(shop: Collection) -> None:
    EmbeddingModel.objects.update(state="retired")
    response = put_in(RED)
    assert "has still to be set up" in html(response, 503)
    assert response.headers["Retry-After"]


def test_a_missing_model_of_faces_leaves_the_whole_image(shop: Collection) -> None:
    image = ready(shop, RED)
    EmbeddingModel.objects.filter(pipeline="face").update(state="retired")
    page = html(put_in(RED))
    assert found(page) == ids(image)
    assert "Faces cannot be looked for at the moment" in page


# --- Between requests -------------------------------------------------------------------------------------------------


def test_a_forgotten_photo_is_asked_for_again(shop: Collection) -> None:
    kept = address(html(put_in(RED)))
    html(Client().get(kept))
    get_redis_connection("default").delete("visearch:query:" + kept.split("/")[2])
    page = html(Client().get(kept), 404)
    assert "Your photo was forgotten" in page
    assert '<input type="file"' in page
    assert "was forgotten" in html(Client().get("/search/whatever/"), 404)


def test_a_photo_seen_by_another_model_is_asked_for_again(shop: Collection) -> None:
    kept = address(html(put_in(RED)))
    EmbeddingModel.objects.filter(pipeline="face").update(fingerprint="0" * 64)
    assert "the model has been replaced" in html(Client().get(kept), 410)
    html(Client().get(f"{kept}?region=1"))  # the whole image, whose model still serves


def test_a_photo_during_which_another_model_takes_over(shop: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    def keep(*_: object) -> str:
        EmbeddingModel.objects.filter(pipeline="face").update(fingerprint="0" * 64)
        return "token"

    monkeypatch.setattr("search.query_tokens.keep", keep)
    page = html(put_in(RED), 410)
    assert "the model has been replaced" in page
    assert '<input type="file"' in page


def test_without_redis_a_photo_is_searched_and_what_does_not_work_is_said(
    shop: Collection, take_redis_away: Callable[[], None]
) -> None:
    red = ready(shop, RED)
    measured("face", 0.05, 0.2)
    kept = address(html(put_in(TWO_FACES)))
    take_redis_away()
    page = html(put_in(TWO_FACES))
    assert found(page) == ids(red)
    assert "At the moment nothing can be remembered between two pages" in page
    assert picks(page) == {}
    assert page.count('<rect class="mark') == 2  # shown, and no links
    assert "data-filter" not in page
    assert "We cannot remember at the moment" in html(Client().get(kept), 503)


def test_a_token_shows_everybody_what_they_may_see_themselves(shop: Collection) -> None:
    private = Collection.objects.create(name="private", pipelines=["face", "image"])
    member = viewer_of(private)
    secret, open_to_all = ready(private, RED, title="secret"), ready(shop, squares((9, 9, 50, "red")))
    page = html(put_in(RED, client=member))
    assert set(found(page)) == set(ids(secret, open_to_all))
    page = html(Client().get(address(page)))
    assert found(page) == ids(open_to_all)
    assert "secret" not in page
    Collection.objects.update(face_search="staff")
    page = html(Client().get(f"{address(html(put_in(RED, client=member)))}?region=0"))
    assert found(page) == []
    assert "Faces cannot be searched here" in page


@pytest.mark.parametrize("said", ["?region=99", "?region=-1", "?region=x", "?k=x&near=perhaps", "?k=-5", "?k=1000000"])
def test_what_cannot_be_read_in_an_address_counts_as_not_said(shop: Collection, said: str) -> None:
    image = ready(shop, RED)
    assert found(html(Client().get(address(html(put_in(RED))) + said))) == ids(image)


# --- Results ----------------------------------------------------------------------------------------------------------


def shades(shop: Collection, count: int, **facts: Any) -> list[Image]:
    """Reds ever farther from the first."""
    return [ready(shop, squares((20, 30, 40, f"#ff00{2 * step:02x}")), **facts) for step in range(count)]


def test_similarity_is_told_in_words_by_the_models_measured_distances(shop: Collection) -> None:
    reds = shades(shop, 4)
    measured("face", 5 / 255, 10 / 255)
    page = html(put_in(RED))
    assert found(page) == ids(*reds[:3])
    assert words(page) == ["the same photo", "likely the same person", "looks alike"]
    beyond = html(Client().get(link(page, "Show what is near, but not close")))
    assert found(beyond) == ids(*reds)
    assert words(beyond)[-1] == "not close"
    assert "Not close, but nearest" in beyond
    assert "Distance 0.0157" in page
    model = EmbeddingModel.objects.get(pipeline="face")
    assert str(model) in page
    assert "compared one by one, without an index" in page


def test_a_model_that_nobody_measured_gets_no_words(shop: Collection) -> None:
    reds = shades(shop, 2)
    page = html(put_in(RED))
    assert found(page) == ids(*reds)
    assert words(page) == []
    assert "Show what is near" not in page


def test_the_heading_counts_what_is_shown_where_there_is_more(shop: Collection) -> None:
    model = EmbeddingModel.objects.get(pipeline="face")
    store(shop, model, *[[1.01, 0.01] * 4] * 3, *[[0.5, 0.5] * 4] * 20)
    measured("face", 0.05, 0.1)
    page = html(Client().get(address(html(put_in(RED))) + "?near=1"))
    assert len(found(page)) == 20
    assert "Not close, but nearest" in page
    assert "Show more" in page
    assert "The 20 nearest" in page


def test_nothing_near_is_an_answer(shop: Collection) -> None:
    image = ready(shop, BLUE)
    measured("face", 0.05, 0.1)
    page = html(put_in(RED))
    assert found(page) == []
    assert "Nothing close" in page
    assert found(html(Client().get(link(page, "Show what is near, but not close")))) == ids(image)


def test_twenty_at_first_and_more_by_a_link_up_to_a_hundred(shop: Collection) -> None:
    store(shop, EmbeddingModel.objects.get(pipeline="face"), *[[1.01, 0.01] * 4] * 102)  # all red
    page = html(put_in(RED))
    assert (len(found(page)), "The 20 nearest" in page) == (20, True)
    while "Show more" in page:
        before = found(page)
        page = html(Client().get(link(page, "Show more").split("#")[0]))
        assert found(page)[: len(before)] == before
        assert len(found(page)) == len(before) + 20
    assert len(found(page)) == 100
    assert "the hundred nearest" in page


def test_collection_and_label_narrow_it_down_in_the_address(shop: Collection) -> None:
    other = Collection.objects.create(name="other", pipelines=["face", "image"], is_public=True, face_search="everyone")
    for step in range(25):
        ready(shop, squares((20, 30, 40, "red"), size=(200 + step, 150)), label="common")
    rare, there = ready(shop, squares((20, 30, 40, "#ff0020")), label="Rare"), ready(other, BLUE, label="common")
    kept = address(html(put_in(RED)))
    assert found(html(Client().get(f"{kept}?label=rare"))) == ids(rare)
    page = html(Client().get(f"{kept}?collection=other&label=common"))
    assert found(page) == ids(there)
    chosen = '<option value="other" selected>other</option>'
    assert chosen in page
    assert 'value="common"' in page
    assert "collection=other&amp;label=common" in page  # whatever is picked next keeps them
    assert chosen in html(Client().get(link(page, "Another photo")))
    assert found(html(put_in(RED, collection="other"))) == ids(there)
    assert "what you narrowed the search to" in html(Client().get(f"{kept}?label=nothing"))


def test_a_collection_that_one_may_not_see_does_not_exist(shop: Collection) -> None:
    private = Collection.objects.create(name="private", pipelines=["face", "image"])
    member = viewer_of(private)
    kept = address(html(put_in(RED)))
    for path in (f"{kept}?collection=private", "/?collection=private"):
        html(Client().get(path, headers={"Accept": "text/html"}), 404)
        html(member.get(path))
    assert "private" not in html(Client().get("/"))


def test_where_a_collection_has_no_face_search_the_whole_image_is_taken(shop: Collection) -> None:
    things = Collection.objects.create(name="things", pipelines=["image"], is_public=True)
    image = ready(things, RED)
    page = html(put_in(RED, collection="things"))
    assert found(page) == ids(image)
    assert re.search(r'aria-current="true">Whole image<', page)


# --- What is stored ---------------------------------------------------------------------------------------------------


def test_samples_are_what_anybody_may_see(shop: Collection) -> None:
    private = Collection.objects.create(name="private", pipelines=["face", "image"])
    ready(private, RED)
    member = viewer_of(private)
    ready(shop, BLUE, is_published=False)
    first, last = ready(shop, RED), ready(shop, GREY)
    for client in (Client(), member):
        assert re.findall(r"/search/image/([0-9a-f-]+)/", html(client.get("/"))) == ids(first, last)


def test_samples_are_of_collections_that_have_images(shop: Collection) -> None:
    for number in range(5):
        Collection.objects.create(name=f"an empty one {number}", pipelines=["image"], is_public=True)
    Collection.objects.filter(pk=shop.pk).update(name="z shop")
    assert "no image here is public yet" in html(Client().get("/"))
    last = Collection.objects.create(name="zz", pipelines=["face", "image"], is_public=True, face_search="everyone")
    image = ready(last, RED)
    page = html(Client().get("/"))
    assert re.findall(r"/search/image/([0-9a-f-]+)/", page) == ids(image)
    assert "no image here is public yet" not in page
    assert 'alt="Find images like Image"' in page  # it has neither title nor label


def test_more_like_this_leads_from_a_result_to_others_like_it(shop: Collection) -> None:
    red, blue, two = ready(shop, RED), ready(shop, BLUE), ready(shop, TWO_FACES)
    measured("face", 0.05, 0.2)
    page = html(Client().get(f"/search/image/{two.pk}/"))
    assert found(page) == ids(red)
    assert list(picks(page)) == ["Face 1", "Face 2", "Whole image"]
    page = html(Client().get(picks(page)["Face 2"]))
    assert found(page) == ids(blue)
    page = html(Client().get(link(page, "More like this")))
    assert found(page) == ids(two)


def test_the_page_of_an_image(shop: Collection) -> None:
    facts = {"link": "https://shop.example/1", "source_url": "https://a.example/2", "licence": "CC0"}
    two, red = ready(shop, TWO_FACES, title="Two <b>squares</b>", label="4711", **facts), ready(shop, RED)
    two.tags.add("round", "new")
    two.regions.filter(x=5).update(person=Person.objects.create(name="Ada"))
    page = html(Client().get(f"/images/{two.pk}/"))
    assert "Two &lt;b&gt;squares&lt;/b&gt;" in page
    for said in ("4711", "CC0", "new", "round", "shop"):
        assert said in page
    assert '<a class="button main" href="https://shop.example/1" rel="noopener nofollow">' in page
    assert '<a href="https://a.example/2" rel="noopener nofollow">' in page
    assert list(picks(page)) == ["Ada", "Face 2", "Whole image"]
    assert found(page) == ids(red)


def test_no_link_leads_anywhere_but_to_the_web(shop: Collection) -> None:
    image = ready(shop, RED)
    Image.objects.update(link="javascript:alert(1)", source_url="data:text/html,x")
    page = html(Client().get(f"/images/{image.pk}/"))
    assert "javascript:" not in page
    assert "data:" not in page


def test_what_a_viewer_may_not_see_has_no_page(shop: Collection) -> None:
    private = Collection.objects.create(name="private", pipelines=["face", "image"])
    member = viewer_of(private)
    image = ready(private, RED)
    region = image.regions.get(pipeline="face")
    paths = [f"/images/{image.pk}/", f"/search/image/{image.pk}/", f"/search/region/{region.pk}/"]
    for path in paths:
        html(Client().get(path), 404)
        html(member.get(path))
    html(Client().get(f"/images/{uuid4()}/"), 404)
    Image.objects.update(is_published=False)
    for path in paths:
        html(member.get(path), 404)


def test_faces_that_a_viewer_may_not_search_are_not_shown(shop: Collection) -> None:
    image = ready(shop, RED)
    region = image.regions.get(pipeline="face")
    region.person = Person.objects.create(name="Ada")
    region.save()
    Collection.objects.update(face_search="staff")
    page = html(Client().get(f"/images/{image.pk}/"))
    assert "Ada" not in page
    assert picks(page) == {}
    assert '<rect class="mark' not in page
    html(Client().get(f"/search/region/{region.pk}/"), 404)


def test_what_waits_has_a_page_for_its_editors(shop: Collection) -> None:
    image = ready(shop, RED)
    Image.objects.update(status="queued")
    image.regions.all().delete()
    client = Client()
    client.force_login(User.objects.create_superuser("superuser"))
    assert "still being worked on" in html(client.get(f"/images/{image.pk}/"))


# --- Who looks --------------------------------------------------------------------------------------------------------


def test_a_viewer_signs_in_by_password_and_out_again(shop: Collection) -> None:
    private = Collection.objects.create(name="private", pipelines=["face", "image"])
    image = ready(private, RED)
    group = Group.objects.create(name="viewers")
    private.viewers.add(group)
    User.objects.create_user("vera", password="a password").groups.add(group)
    path = f"/images/{image.pk}/"
    client = Client(enforce_csrf_checks=True)

    def send(to: str, **fields: str) -> Any:
        return client.post(to, {"csrfmiddlewaretoken": client.cookies["csrftoken"].value, **fields})

    html(client.get(path), 404)
    form = html(client.get(link(html(client.get("/")), "Sign in")))
    assert '<input type="hidden" name="next" value="/">' in form
    assert "Name or password is wrong" in html(send("/login/", username="vera", password="another", next=path))
    elsewhere = send("/login/", username="vera", password="a password", next="https://evil.example/")
    assert elsewhere.headers["Location"] == "/"
    response = send("/login/", username="vera", password="a password", next=path)
    assert (response.status_code, response.headers["Location"]) == (302, path)
    page = html(client.get(path))
    assert "vera" in page
    assert "Sign out" in page
    html(client.get("/logout/"), 405)
    html(client.get(path))
    assert send("/logout/").headers["Location"] == "/"
    html(client.get(path), 404)


def test_attempts_to_sign_in_are_counted_with_those_to_get_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SimpleRateThrottle.THROTTLE_RATES, "login", "2/min")
    wrong = {"username": "vera", "password": "guessed"}
    html(Client().post("/login/", wrong))
    assert Client().post("/api/v1/auth/login/", wrong, content_type="application/json").status_code == 401
    response = Client().post("/login/", wrong)
    assert f"Wait {response.headers['Retry-After']} seconds, then sign in again" in html(response, 429)


# --- Words ------------------------------------------------------------------------------------------------------------


def test_german_for_those_who_read_it(shop: Collection) -> None:
    client = Client(headers={"Accept-Language": "de-AT,de;q=0.9,en;q=0.5"})
    page = html(client.get("/"))
    assert '<html lang="de">' in page
    assert "Foto auswählen" in page
    ready(shop, RED)
    page = html(put_in(TWO_FACES, client=client))
    assert "Ganzes Bild" in page
    assert '<rect class="mark on" x="5.0" y="5.0" width="60.0"' in page  # not 5,0
    assert "Abstand 0,0000" in page
    assert "Dieses Bild ist beschädigt" in html(put_in(BAD_FILES[4][1], "cut.jpg", client=client), 422)


def test_the_language_can_be_chosen() -> None:
    client = Client()
    client.post("/i18n/setlang/", {"language": "de", "next": "/"})
    assert '<html lang="de">' in html(client.get("/"))


# --- Queries ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("images", [3, 15])
def test_each_page_asks_the_database_a_constant_number_of_times(
    shop: Collection, django_assert_num_queries: DjangoAssertNumQueries, images: int
) -> None:
    for number in range(images):
        ready(shop, squares((20, 30, 40, "red"), size=(200 + number, 150)), label="red")
    image = Image.objects.latest("id")
    image.tags.add("tag")
    region = image.regions.get(pipeline="face")
    kept = address(html(put_in(RED)))
    with django_assert_num_queries(4):  # samples of collections, their images; names of collections; labels
        Client().get("/")
    with django_assert_num_queries(11):  # faces? models; names; faces here? their model, allowed? then as the API
        put_in(RED)
    with django_assert_num_queries(8):
        Client().get(kept)
    with django_assert_num_queries(9):
        Client().get(f"{kept}?region=0&collection=shop&label=red")
    with django_assert_num_queries(10):
        Client().get(f"/search/region/{region.pk}/")
    with django_assert_num_queries(11):
        Client().get(f"/search/image/{image.pk}/")
    with django_assert_num_queries(11):
        Client().get(f"/images/{image.pk}/")


# --- How it was found -------------------------------------------------------------------------------------------------


def test_staff_read_how_it_was_found_and_nobody_else_does(shop: Collection) -> None:
    red, _ = ready(shop, RED), ready(shop, BLUE)
    user = User.objects.create_user("staff", is_staff=True)
    staff, german = Client(), Client(headers={"Accept-Language": "de"})
    for client in (staff, german):
        client.force_login(user)
    for client, told in ((staff, True), (Client(), False), (viewer_of(shop), False)):
        for page in (html(put_in(RED, client=client)), html(client.get(f"/search/image/{red.pk}/"))):
            assert ("How this was found" in page) is told
            assert ("2 vectors, compared exactly" in page) is told
    assert "2 Vektoren, exakt verglichen" in html(put_in(RED, client=german))
