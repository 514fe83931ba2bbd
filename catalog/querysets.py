"""The questions everybody asks of the catalogue, with the rules of who may see what in one place.

| who | sees | changes |
| --- | --- | --- |
| anybody | findable, published images of public collections | nothing |
| a member of a collection's viewers | its findable, published images | nothing |
| a member of a collection's editors | all its images | its images, regions, people named in it |
| a superuser | everything | everything |

Findable are ready images, and those that were ready and are processed again (``findable``).

Faces: a collection's faces may be searched and seen by everybody who sees it if it says so, else by its own groups.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self
from uuid import UUID

from django.contrib.auth.models import AnonymousUser, User
from django.db import models, transaction
from django.db.models import OuterRef, Q, Subquery
from django.db.models.lookups import IsNull
from django.utils import timezone

if TYPE_CHECKING:
    from catalog import models as rows  # noqa: F401 - named in the strings below

Viewer = User | AnonymousUser


def findable(image: str = "") -> Q:
    """Images that searches show: ready ones, and those that have been and wait to be processed again, or are.

    What was found in them holds until something is found in its place; one that fails is hidden. ``image``: the way to
    the image with ``__`` at its end, "" for a query of images.
    """
    again = {f"{image}status__in": ["queued", "processing"], f"{image}processed_at__isnull": False}
    return Q(**{f"{image}status": "ready"}) | Q(**again)


def group_ids(user: Viewer) -> list[int]:
    """The groups of a user, asked once per user object (which lives as long as its request)."""
    if not user.is_authenticated:
        return []
    cached: list[int] | None = user.__dict__.get("_visearch_group_ids")
    if cached is None:
        cached = list(user.groups.values_list("pk", flat=True))
        user.__dict__["_visearch_group_ids"] = cached
    return cached


class CollectionQuerySet(models.QuerySet["rows.Collection"]):
    def visible_to(self, user: Viewer) -> Self:
        if user.is_superuser:
            return self
        return self.filter(Q(is_public=True) | self._given_to(user))

    def editable_by(self, user: Viewer) -> Self:
        if user.is_superuser:
            return self
        return self.filter(pk__in=self._through("editors", user))

    def face_searchable_by(self, user: Viewer) -> Self:
        """Collections that run faces and let this user search them."""
        faces = self.filter(pipelines__contains=["face"])
        if user.is_superuser:
            return faces
        return faces.visible_to(user).filter(Q(face_search="everyone") | self._given_to(user))

    def _given_to(self, user: Viewer) -> Q:
        return Q(pk__in=self._through("editors", user)) | Q(pk__in=self._through("viewers", user))

    def _through(self, field: str, user: Viewer) -> models.QuerySet[models.Model]:
        through = getattr(self.model, field).through  # a subquery, so that two groups never double a row
        given: models.QuerySet[models.Model] = through.objects.filter(group__in=group_ids(user))
        return given.values("collection")  # type: ignore[return-value]


class ImageQuerySet(models.QuerySet["rows.Image"]):
    def visible_to(self, user: Viewer) -> Self:
        if user.is_superuser:
            return self
        collections = self._collections()
        return self.filter(
            Q(findable(), collection__in=collections.visible_to(user), is_published=True)
            | Q(collection__in=collections.editable_by(user))
        )

    def editable_by(self, user: Viewer) -> Self:
        if user.is_superuser:
            return self
        return self.filter(collection__in=self._collections().editable_by(user))

    def delete(self) -> tuple[int, dict[str, int]]:
        """Waits for workers that are storing regions of these images, so that those go, too."""
        with transaction.atomic():
            self.lock()
            return super().delete()

    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]  # the manager has none: it would delete everything

    def lock(self) -> None:
        """Lock the rows, in the order of their keys, until the surrounding transaction ends."""
        keys = list(self.values_list("pk", flat=True))
        rows = self.model._base_manager.filter(pk__in=keys).select_for_update(of=("self",)).order_by("pk")
        list(rows.values_list("pk"))

    def lock_keys(self) -> list[UUID]:
        """The keys of these rows, in their order; until the surrounding transaction ends nobody else changes one.

        Whoever only refers to one is let pass, unlike by `lock`.
        """
        rows = self.select_for_update(no_key=True, of=("self",)).order_by("pk")
        return list(rows.values_list("pk", flat=True))

    def idle(self) -> Self:
        """Those that no worker is at and that wait for none: ready, failed, held."""
        return self.filter(status__in=["ready", "failed", "held"])

    def pending(self) -> Self:
        """Waiting for a worker: queued (and not given back a moment ago), or claimed by one whose lease has run out.

        Not `abandoned`: nobody begins those.
        """
        fresh = Q(status="queued", lease_until__isnull=True)
        again = Q(status__in=["queued", "processing"], lease_until__lt=timezone.now())
        begun_before = Q(processed_at__isnull=False) | Q(IsNull(self._stopped_line(), True))
        waiting = Q(status__in=["queued", "processing"])  # implied; it names the index that holds them by key
        return self.filter(waiting, fresh | (again & begun_before))

    def abandoned(self) -> Self:
        """Given back by a worker, or left by one whose lease has run out, and not to be begun again: the job that
        stored them was paused or cancelled meanwhile. What was processed once is not among them: it stays findable."""
        left = Q(status="queued", lease_until__isnull=False)
        left |= Q(status="processing", lease_until__lt=timezone.now())
        return self.filter(left, IsNull(self._stopped_line(), False), processed_at__isnull=True)

    def _stopped_line(self) -> Subquery:
        """A line by which a job that does not run stored the image, looked up for each row that is asked about: an
        EXISTS might be made a hash of all such lines, for each claim."""
        lines = self.model._meta.get_field("intake_lines").related_model._base_manager
        stopped = lines.filter(image=OuterRef("pk"), verdict="stored").exclude(job__state="running")
        return Subquery(stopped.order_by().values("pk")[:1])

    def _collections(self) -> CollectionQuerySet:
        return CollectionQuerySet(self.model._meta.get_field("collection").related_model)


class RegionQuerySet(models.QuerySet["rows.Region"]):
    def visible_to(self, user: Viewer) -> Self:
        """Regions of visible images; faces only where this user may search faces."""
        if user.is_superuser:
            return self
        images = self._images().visible_to(user)
        searchable = images._collections().face_searchable_by(user)
        return self.filter(Q(image__in=images) & (~Q(pipeline="face") | Q(image__collection__in=searchable)))

    def shown_to(self, user: Viewer) -> Self:
        """Regions that this user may see; dismissed ones are for those who could take it back."""
        if user.is_superuser:
            return self
        edited = self._images()._collections().editable_by(user)
        return self.visible_to(user).filter(Q(dismissed=False) | Q(image__collection__in=edited))

    def editable_by(self, user: Viewer) -> Self:
        if user.is_superuser:
            return self
        return self.filter(image__in=self._images().editable_by(user))

    def _images(self) -> ImageQuerySet:
        return ImageQuerySet(self.model._meta.get_field("image").related_model)


class PersonQuerySet(models.QuerySet["rows.Person"]):
    """Who was merged into somebody else is left out of all that offers people."""

    def visible_to(self, user: Viewer) -> Self:
        """People with a face that this user may see; a person nobody was named as is for superusers only."""
        standing = self.filter(merged_into=None)
        if user.is_superuser:
            return standing
        regions = self._regions().visible_to(user)
        return standing.filter(pk__in=regions.filter(person__isnull=False, dismissed=False).values("person"))

    def named_in_collections_of(self, user: Viewer) -> Self:
        """People with a face in a collection that this user edits; superusers see all."""
        standing = self.filter(merged_into=None)
        if user.is_superuser:
            return standing
        return standing.filter(pk__in=self._regions().editable_by(user).filter(person__isnull=False).values("person"))

    def editable_by(self, user: Viewer) -> Self:
        """People all of whose faces are in collections that this user edits: nobody renames for another side."""
        standing = self.filter(merged_into=None)
        if user.is_superuser:
            return standing
        regions = self._regions()
        named = regions.filter(person__isnull=False)
        elsewhere = named.exclude(pk__in=regions.editable_by(user).values("pk"))
        return self.named_in_collections_of(user).exclude(pk__in=elsewhere.values("person"))

    def _regions(self) -> RegionQuerySet:
        return RegionQuerySet(self.model.regions.rel.related_model)
