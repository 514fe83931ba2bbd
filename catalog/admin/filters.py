"""What the lists of the admin are narrowed by; each offers only what this user may see."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db.models import Count, Model, QuerySet
from django.http import HttpRequest
from taggit.models import Tag
from unfold.contrib.filters.admin import DropdownFilter

from catalog.admin.base import uuid_of
from catalog.job_overview import STATES, in_state
from catalog.models import Collection, Image, IntakeJob, Person, Region
from catalog.regions import FACE

OFFERED = 200  # a longer menu is of no use; the search finds the rest


class Menu(DropdownFilter):  # type: ignore[misc]  # unfold has no types
    """One that has nothing to offer still narrows by what the address says."""

    def has_output(self) -> bool:
        return bool(self.lookup_choices or self.value())


class CollectionFilter(Menu):
    title = "collection"
    parameter_name = "collection"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        mine = Collection.objects.editable_by(request.user).values_list("pk", "name")
        return [(str(pk), name) for pk, name in mine]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Model]) -> QuerySet[Model]:
        return queryset.filter(collection=uuid_of(self.value())) if self.value() else queryset


class LabelFilter(Menu):
    title = "label"
    parameter_name = "label"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        mine = Image.objects.editable_by(request.user).exclude(label="").order_by("label")
        return [(label, label) for label in mine.values_list("label", flat=True).distinct()[:OFFERED]]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Model]) -> QuerySet[Model]:
        return queryset.filter(label=self.value()) if self.value() else queryset


class TagFilter(Menu):
    title = "tag"
    parameter_name = "tag"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        mine = Tag.objects.filter(image__in=Image.objects.editable_by(request.user)).order_by("name")
        return [(name, name) for name in mine.values_list("name", flat=True).distinct()[:OFFERED]]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Model]) -> QuerySet[Model]:
        if not self.value():
            return queryset
        return queryset.filter(pk__in=Image.objects.filter(tags__name=self.value()).values("pk"))


class PersonFilter(Menu):
    title = "person"
    parameter_name = "person"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        mine = Person.objects.visible_to(request.user).order_by("name").values_list("pk", "name")
        return [(str(pk), name) for pk, name in mine[:OFFERED]]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Model]) -> QuerySet[Model]:
        if not self.value():
            return queryset
        seen = Region.objects.filter(dismissed=False, person=uuid_of(self.value()))
        return queryset.filter(pk__in=seen.values("image"))


class FacesFilter(Menu):
    title = "faces"
    parameter_name = "faces"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [("0", "none"), ("1", "one"), ("2", "two or more"), ("unnamed", "some without a name")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Model]) -> QuerySet[Model]:
        faces = Region.objects.filter(pipeline=FACE, dismissed=False).order_by()
        counted = faces.values("image").annotate(n=Count("pk"))
        if self.value() == "0":
            return queryset.exclude(pk__in=faces.values("image"))
        if self.value() == "1":
            return queryset.filter(pk__in=counted.filter(n=1).values("image"))
        if self.value() == "2":
            return queryset.filter(pk__in=counted.filter(n__gte=2).values("image"))
        if self.value() == "unnamed":
            return queryset.filter(pk__in=faces.filter(person__isnull=True).values("image"))
        return queryset


class PublishedFilter(Menu):
    title = "published"
    parameter_name = "published"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [("yes", "published"), ("no", "not published")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Model]) -> QuerySet[Model]:
        return queryset.filter(is_published=self.value() == "yes") if self.value() in ("yes", "no") else queryset


class JobStateFilter(Menu):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [(state, state) for state in STATES]

    def queryset(self, request: HttpRequest, queryset: QuerySet[IntakeJob]) -> QuerySet[IntakeJob]:
        return in_state(queryset, self.value()) if self.value() else queryset
