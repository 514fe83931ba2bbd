"""What lists can be narrowed by. A parameter that does not exist is an error: ignored, it would return everything."""

from __future__ import annotations

import django_filters  # type: ignore[import-untyped]
from django.db.models import Model, QuerySet
from django_filters.rest_framework import DjangoFilterBackend  # type: ignore[import-untyped]
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.views import APIView

from catalog.api.lookups import by_id_or_name
from catalog.job_overview import STATES, in_state
from catalog.models import Collection, Image, IntakeJob, IntakeLine, Person, Region

PAGE_PARAMETERS = frozenset({"cursor", "page_size", "format"})


class StrictFilterBackend(DjangoFilterBackend):  # type: ignore[misc]
    def filter_queryset(self, request: Request, queryset: QuerySet[Model], view: APIView) -> QuerySet[Model]:
        filterset_class = self.get_filterset_class(view, queryset)
        known = set(filterset_class.base_filters) if filterset_class else set()
        unknown = sorted(set(request.query_params) - known - PAGE_PARAMETERS)
        if unknown:
            names = ", ".join(sorted(known | PAGE_PARAMETERS))
            raise ValidationError({name: [f"There is no such parameter, only {names}."] for name in unknown})
        return super().filter_queryset(request, queryset, view)  # type: ignore[no-any-return]


class CollectionFilter(django_filters.FilterSet):  # type: ignore[misc]
    name = django_filters.CharFilter(help_text="The whole name.")
    is_public = django_filters.BooleanFilter()
    editable = django_filters.BooleanFilter(method="only_editable", help_text="true: those that you may change.")

    class Meta:
        model = Collection
        fields = ["name", "is_public", "editable"]

    def only_editable(self, queryset: QuerySet[Collection], _: str, wanted: bool) -> QuerySet[Collection]:
        mine = Collection.objects.editable_by(self.request.user).values("pk")
        return queryset.filter(pk__in=mine) if wanted else queryset.exclude(pk__in=mine)


class ImageFilter(django_filters.FilterSet):  # type: ignore[misc]
    collection = django_filters.CharFilter(method="in_collection", help_text="Id or name.")
    status = django_filters.ChoiceFilter(choices=Image.Status.choices)
    label = django_filters.CharFilter(help_text="The whole label.")
    external_id = django_filters.CharFilter()
    tag = django_filters.CharFilter(field_name="tags__name", distinct=True, help_text="The whole name of a tag.")
    person = django_filters.CharFilter(method="with_person", help_text="Id or name of a person seen in it.")

    class Meta:
        model = Image
        fields = ["collection", "status", "label", "external_id", "tag", "person"]

    def in_collection(self, queryset: QuerySet[Image], _: str, value: str) -> QuerySet[Image]:
        return queryset.filter(collection=by_id_or_name(Collection.objects.visible_to(self.request.user), value))

    def with_person(self, queryset: QuerySet[Image], _: str, value: str) -> QuerySet[Image]:
        person = by_id_or_name(Person.objects.visible_to(self.request.user), value)
        seen = Region.objects.visible_to(self.request.user).filter(person=person, dismissed=False)
        return queryset.filter(pk__in=seen.values("image"))


class RegionFilter(django_filters.FilterSet):  # type: ignore[misc]
    image = django_filters.UUIDFilter(field_name="image_id", help_text="Id of an image.")
    person = django_filters.UUIDFilter(field_name="person_id", help_text="Id of a person.")
    pipeline = django_filters.CharFilter()
    dismissed = django_filters.BooleanFilter()

    class Meta:
        model = Region
        fields = ["image", "person", "pipeline", "dismissed"]


class PersonFilter(django_filters.FilterSet):  # type: ignore[misc]
    name = django_filters.CharFilter(lookup_expr="icontains", help_text="A part of the name.")

    class Meta:
        model = Person
        fields = ["name"]


class JobFilter(django_filters.FilterSet):  # type: ignore[misc]
    collection = django_filters.CharFilter(method="in_collection", help_text="Id or name.")
    source = django_filters.ChoiceFilter(choices=IntakeJob.Source.choices)
    state = django_filters.ChoiceFilter(choices=[(state, state) for state in STATES], method="now_in_state")

    class Meta:
        model = IntakeJob
        fields = ["collection", "source", "state"]

    def now_in_state(self, queryset: QuerySet[IntakeJob], _: str, value: str) -> QuerySet[IntakeJob]:
        return in_state(queryset, value)

    def in_collection(self, queryset: QuerySet[IntakeJob], _: str, value: str) -> QuerySet[IntakeJob]:
        return queryset.filter(collection=by_id_or_name(Collection.objects.visible_to(self.request.user), value))


class LineFilter(django_filters.FilterSet):  # type: ignore[misc]
    verdict = django_filters.ChoiceFilter(choices=IntakeLine.Verdict.choices)

    class Meta:
        model = IntakeLine
        fields = ["verdict"]
