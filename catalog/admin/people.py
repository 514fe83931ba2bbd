"""People: who they are, their faces, and that two of them are one."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.paginator import Paginator
from django.db.models import Count, Prefetch, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.defaultfilters import pluralize
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from catalog.admin.base import NOTHING_DONE, CatalogAdmin, cleaned_text, user_of, uuid_of
from catalog.admin.crops import crops_of
from catalog.curation import faces as curate_faces
from catalog.curation import merges as records
from catalog.curation import people as curate
from catalog.curation.errors import NAME_TAKEN, BadName, CurationError
from catalog.models import Person, PersonMerge, Region
from catalog.naming import identities

FACES_IN_LIST = 4
FACES_ON_PAGE = 60
FACES_IN_MERGE = 8


class PersonForm(forms.ModelForm):  # type: ignore[type-arg]  # Django has no generic forms at run time
    class Meta:
        model = Person
        fields = ["name", "notes"]
        error_messages = {"name": {"unique": NAME_TAKEN}}
        widgets = {"name": UnfoldAdminTextInputWidget, "notes": UnfoldAdminTextareaWidget(attrs={"rows": 3})}

    def clean_name(self) -> str:
        try:
            return curate.cleaned_name(self.cleaned_data["name"])
        except BadName as error:
            raise ValidationError(str(error)) from error


@admin.register(Person)
class PersonAdmin(CatalogAdmin):
    """Of editors, those who are named in their collections; changed by whoever edits all collections they are in."""

    form = PersonForm
    list_display = ("name", "faces", "some_faces", "notes_begin")
    search_fields = ("name", "notes")
    search_help_text = "name (for administrators also of those merged into them), or notes"
    ordering = ("name",)
    list_per_page = 50
    actions = ("merge",)

    # --- Who may ----------------------------------------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[Person]:
        user = user_of(request)
        mine = Count("regions", filter=Q(regions__in=_faces_for(user)))
        some = Prefetch(
            "regions",
            _faces_for(user).select_related("image", "person").order_by("-score", "pk")[:FACES_IN_LIST],
            to_attr="some_regions",
        )
        people = Person.objects.named_in_collections_of(user)
        return people.annotate(face_count=mine).prefetch_related(some).order_by("name")

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Person | None:
        """Also who was merged into somebody whom the user may see: their address goes on saying so."""
        person = Person.objects.select_related("merged_into").filter(pk=uuid_of(object_id)).first()
        seen = Person.objects.named_in_collections_of(user_of(request))
        return person if person and seen.filter(pk=person.current().pk).exists() else None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # people are made by naming a face

    def has_change_permission(self, request: HttpRequest, obj: Person | None = None) -> bool:
        allowed: bool = super().has_change_permission(request, obj)
        if not allowed or obj is None:
            return allowed
        return Person.objects.editable_by(user_of(request)).filter(pk=obj.pk).exists()

    def has_delete_permission(self, request: HttpRequest, obj: Person | None = None) -> bool:
        return bool(super().has_delete_permission(request, obj)) and (
            obj is None or self.has_change_permission(request, obj)
        )

    def get_search_fields(self, request: HttpRequest) -> tuple[str, ...]:
        """Who was merged away may have been named only in collections that an editor does not see."""
        return (*self.search_fields, "merged__name") if user_of(request).is_superuser else self.search_fields

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        found: dict[str, Any] = super().get_actions(request)
        found.pop("delete_selected", None)  # one by one, having seen whose faces lose their name
        return found

    # --- The list ---------------------------------------------------------------------------------------------------

    @admin.display(description="faces", ordering="face_count")
    def faces(self, person: Person) -> int:
        return int(person.face_count)  # type: ignore[attr-defined]

    @admin.display(description="some of them")
    def some_faces(self, person: Person) -> str:
        crops = crops_of(person.some_regions)  # type: ignore[attr-defined]
        return render_to_string("admin/catalog/person/crops.html", {"crops": crops})

    @admin.display(description="notes")
    def notes_begin(self, person: Person) -> str:
        return person.notes if len(person.notes) <= 80 else f"{person.notes[:80]}…"

    @admin.action(description="Merge two people", permissions=["change"])
    def merge(self, request: HttpRequest, queryset: QuerySet[Person]) -> HttpResponse | None:
        keys = list(queryset.values_list("pk", flat=True)[:3])
        if len(keys) != 2:
            messages.error(request, "Choose exactly two people to merge.")
            return None
        return redirect(f"{reverse('admin:catalog_person_merge', args=[keys[0]])}?with={keys[1]}")

    # --- The page ---------------------------------------------------------------------------------------------------

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        try:
            person = self.get_object(request, object_id) if object_id else None
            if person and person.merged_into and request.method == "POST":
                messages.error(request, f"Nothing was saved: {person} was merged into {person.current()} meanwhile.")
                return redirect(request.path)
            context = {**(extra_context or {}), **(self._about(request, person) if person else {})}
            answer: HttpResponse = super().changeform_view(request, object_id, form_url, context)
        except CurationError as error:  # somebody was faster
            messages.error(request, str(error))
            return redirect(request.path)
        return answer

    def _about(self, request: HttpRequest, person: Person) -> dict[str, Any]:
        """Of somebody who was merged away, into whom; else their faces, and the history of their merges."""
        may_change = self.has_change_permission(request, person)
        about = {
            "person": person,
            "merges": records.shown_to(records.merges_of(person), user_of(request)),
            "merged_into": person.current() if person.merged_into else None,
            "may_change": may_change,
            "may_undo": self.has_change_permission(request, person.current()) if person.merged_into else may_change,
        }
        faces = _faces_for(user_of(request)).filter(person=person).select_related("image__collection", "person")
        page = Paginator(faces.order_by("-pk"), FACES_ON_PAGE).get_page(request.GET.get("faces"))
        return {**about, "faces_page": page, "crops": crops_of(page.object_list)}

    def save_model(self, request: HttpRequest, obj: Person, form: Any, change: bool) -> None:
        if "name" in form.changed_data:
            curate.rename_person(obj, obj.name, user_of(request))
        if "notes" in form.changed_data:
            curate.set_notes(obj, obj.notes, user_of(request))

    def log_change(self, request: HttpRequest, obj: Person, message: Any) -> None:
        """catalog.curation has written it."""

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """For whoever may know everybody whom its words name."""
        person = self.get_object(request, object_id)
        if person and not self._may_read_history(request, person):
            messages.error(
                request, "The history names people of collections that you do not edit. Ask an administrator."
            )
            return redirect(_page(person))
        answer: HttpResponse = super().history_view(request, object_id, extra_context)
        return answer

    def _may_read_history(self, request: HttpRequest, person: Person) -> bool:
        merges = records.merges_of(person)
        user = user_of(request)
        return user.is_superuser or (
            self.has_change_permission(request, person.current()) and records.shown_to(merges, user) == merges
        )

    # --- Deleting ---------------------------------------------------------------------------------------------------

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """Says how many faces lose their name. Whoever was merged into them goes, too, and is not asked about."""
        keys = identities(person.pk for person in objs)
        gone = Person.objects.filter(pk__in=keys).exclude(pk__in=[person.pk for person in objs]).order_by("name")
        faces = Region.objects.filter(person__in=keys).count()
        merges = PersonMerge.objects.filter(Q(kept__in=keys) | Q(gone__in=keys)).count()
        lacking = set() if all(self.has_delete_permission(request, person) for person in objs) else {"people"}
        words = [str(person) for person in objs]
        if gone and user_of(request).is_superuser:
            words += [f"{person}, merged into {person.merged_into}" for person in gone]
        words.append(f"The name of {faces} face{pluralize(faces)}. Faces and images themselves stay.")
        count = {"people": len(keys), "merges": merges, "faces that lose their name": faces}
        return words, count, lacking, []

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        try:
            answer: HttpResponse = super().delete_view(request, object_id, extra_context)
        except CurationError as error:  # somebody was faster
            messages.error(request, str(error))
            return redirect("admin:catalog_person_changelist")
        return answer

    def delete_model(self, request: HttpRequest, obj: Person) -> None:
        curate.delete_person(obj, user_of(request))

    def log_deletions(self, request: HttpRequest, queryset: Any) -> list[Any]:
        return []  # catalog.curation has written it

    # --- Its buttons ------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("<uuid:pk>/merge/", wrap(self.merge_view), name="catalog_person_merge"),
            path("<uuid:pk>/reject/<uuid:region>/", wrap(self.reject_view), name="catalog_person_reject"),
            path("<uuid:pk>/undo/<uuid:merge>/", wrap(self.undo_view), name="catalog_person_undo"),
        ]
        return [*own, *super().get_urls()]

    def merge_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Asks who keeps their name, and merges. ``with``: the other's key, or ``name``: their name."""
        person = self._editable(request, pk)
        if request.method != "POST" and not request.GET:  # having logged in again, since the session had ended
            messages.warning(request, "Nothing was merged. Say here once more with whom, then press the button.")
            return redirect(_page(person))
        other = self._other(request)
        if other is None:
            messages.error(
                request, "There is nobody of this name whom you may change. Choose one of the names offered."
            )
            return redirect(_page(person))
        if request.method != "POST":
            return self._ask_to_merge(request, person, other)
        kept, gone = (other, person) if request.POST.get("kept") == str(other.pk) else (person, other)
        try:
            curate.merge_people(kept, gone, user_of(request))
        except CurationError as error:
            messages.error(request, str(error))
            return redirect(_page(person))
        messages.success(request, f"{gone} is {kept} now. The merge can be undone below.")
        return redirect(f"{_page(kept)}#merges")

    def _other(self, request: HttpRequest) -> Person | None:
        values = request.POST if request.method == "POST" else request.GET
        people = Person.objects.editable_by(user_of(request))
        if values.get("with"):
            return people.filter(pk=uuid_of(values["with"])).first()
        name = cleaned_text(values.get("name", ""))
        return people.filter(name=name).first() or people.filter(name__iexact=name).first()

    def _ask_to_merge(self, request: HttpRequest, person: Person, other: Person) -> HttpResponse:
        if person.pk == other.pk:
            messages.error(request, "These are one and the same person. Choose somebody else.")
            return redirect(_page(person))
        context = {
            **self.admin_site.each_context(request),
            "title": "Merge two people",
            "opts": self.opts,
            "person": person,
            "other": other,
            "sides": [_side(person), _side(other)],
        }
        return TemplateResponse(request, "admin/catalog/person/merge.html", context)

    def reject_view(self, request: HttpRequest, pk: UUID, region: UUID) -> HttpResponse:
        """ "Not this person" on one of their faces: for whoever edits that face's collection."""
        person = self._seen(request, pk)
        if request.method == "POST":
            user = user_of(request)
            face = get_object_or_404(_faces_for(user).select_related("image"), pk=region)
            self._do(request, "Remembered.", lambda: curate_faces.reject_person(face, person, user, person.pk))
        else:
            messages.warning(request, NOTHING_DONE)
        return redirect(f"{_page(person)}#faces")

    def undo_view(self, request: HttpRequest, pk: UUID, merge: UUID) -> HttpResponse:
        person = self._seen(request, pk)
        shown = records.shown_to(records.merges_of(person), user_of(request))
        row = next((each for each in shown if each.pk == merge), None)
        if row is None:
            raise Http404("There is no such merge, or you may not see it.")
        if request.method == "POST":
            self._editable(request, row.kept.current().pk)
            self._do(request, f"{row.gone} is a person again.", lambda: curate.undo_merge(row, user_of(request)))
        else:
            messages.warning(request, NOTHING_DONE)
        return redirect(f"{_page(person)}#merges")

    def _do(self, request: HttpRequest, done: str, act: Any) -> None:
        try:
            act()
        except CurationError as error:
            messages.error(request, str(error))
        else:
            messages.success(request, done)

    def _seen(self, request: HttpRequest, pk: UUID) -> Person:
        person = self.get_object(request, str(pk))
        if person is None:
            raise Http404(f"There is no person {pk}, or you may not see them.")
        if not super().has_change_permission(request):
            raise PermissionDenied
        return person

    def _editable(self, request: HttpRequest, pk: UUID) -> Person:
        """Raises Http404, PermissionDenied for somebody who is named in a collection that this user does not edit."""
        person = self._seen(request, pk).current()
        if not self.has_change_permission(request, person):
            raise PermissionDenied("This person is named in a collection that you do not edit. Ask its editors.")
        return person


def _side(person: Person) -> dict[str, Any]:
    """One half of the question whether two people are one."""
    faces = Region.objects.filter(person=person, dismissed=False)
    some = faces.select_related("image", "person").order_by("-score", "pk")[:FACES_IN_MERGE]
    return {"person": person, "count": faces.count(), "crops": crops_of(some)}


def _faces_for(user: User) -> QuerySet[Region]:
    return Region.objects.editable_by(user).filter(dismissed=False, person__isnull=False)


def _page(person: Person) -> str:
    return reverse("admin:catalog_person_change", args=[person.pk])
