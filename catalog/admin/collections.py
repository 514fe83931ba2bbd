"""Collections: what runs on them, who may see and change them, and the place where images are put in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import Group
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from unfold.decorators import display
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminRadioSelectWidget,
    UnfoldAdminTextareaWidget,
)

from catalog.admin.job_actions import may_run_jobs
from catalog.admin.saving import SavesWhatChanged
from catalog.admin.uploading import UploadUrls, may_upload, upload_context
from catalog.models import Collection, Image
from catalog.overview import with_counts
from catalog.vision import registry

ACCESS = ("is_public", "face_search", "editors", "viewers")
EXPLAINED = {
    "face": "face: finds the faces in each image",
    "image": "image: compares images as wholes",
    "digit": "digit: compares handwritten digits",
}


class CollectionForm(forms.ModelForm):  # type: ignore[type-arg]
    pipelines = forms.MultipleChoiceField(
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="What its images can be found by. After adding one, process the images that are here again.",
    )
    editors = forms.ModelMultipleChoiceField(
        Group.objects.all(),
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="Groups that put in, change and delete its images, and name its faces.",
    )
    viewers = forms.ModelMultipleChoiceField(
        Group.objects.all(),
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="Groups that see and search it, also while it is private.",
    )

    class Meta:
        model = Collection
        fields = ("name", "description", "pipelines", "near_duplicates", *ACCESS)
        widgets = {
            "description": UnfoldAdminTextareaWidget({"rows": 3}),
            "face_search": UnfoldAdminRadioSelectWidget,
            "near_duplicates": UnfoldAdminRadioSelectWidget,
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "pipelines" in self.fields:
            known = [*registry.pipelines(), *(self.instance.pipelines or [])]  # also what the settings have no more
            choices = [(name, EXPLAINED.get(name, name)) for name in dict.fromkeys(known)]
            cast(forms.MultipleChoiceField, self.fields["pipelines"]).choices = choices


@admin.register(Collection)
class CollectionAdmin(SavesWhatChanged, UploadUrls):
    form = CollectionForm
    list_display = ("name", "visibility", "runs", "images", "faces", "unnamed", "failed")
    search_fields = ("name", "description")
    fieldsets = (
        (None, {"fields": ("name", "description", "pipelines", "near_duplicates")}),
        ("Who has access", {"fields": ACCESS}),
    )
    change_form_outer_before_template = "admin/catalog/collections/before.html"

    class Media:
        js = ("catalog/admin/talk.js", "catalog/admin/upload.js")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Collection]:
        return with_counts(Collection.objects.editable_by(request.user)).order_by("name")

    def get_readonly_fields(self, request: HttpRequest, obj: Collection | None = None) -> Sequence[str]:
        return () if request.user.is_superuser else ACCESS

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        collection = self.get_object(request, object_id)
        context = {} if collection is None else self._beside(request, collection)
        return super().change_view(  # type: ignore[no-any-return]
            request, object_id, form_url, {**context, **(extra_context or {})}
        )

    def _beside(self, request: HttpRequest, collection: Collection) -> dict[str, Any]:
        figures = [
            ("images", collection.image_count, {}),  # type: ignore[attr-defined]  # annotated, as the next ones
            ("faces", collection.face_count, None),  # type: ignore[attr-defined]
            ("faces without a name", collection.unnamed_count, {"faces": "unnamed"}),  # type: ignore[attr-defined]
            ("failed", collection.failed_count, {"status__exact": "failed"}),  # type: ignore[attr-defined]
        ]
        shown = [
            {"name": name, "number": number, "url": "" if narrowed is None else _images_url(collection, **narrowed)}
            for name, number, narrowed in figures
        ]
        uploading = upload_context(collection) if may_upload(request) else {}
        doors = {"may_upload": may_upload(request), "may_run_jobs": may_run_jobs(request)}
        return {"figures": shown, **doors, **uploading}

    def save_model(self, request: HttpRequest, obj: Collection, form: CollectionForm, change: bool) -> None:
        super().save_model(request, obj, form, change)
        added = set(obj.pipelines) - set(form.initial.get("pipelines") or [])
        if change and added and obj.images.filter(status=Image.Status.READY).exists():
            link = format_html('<a href="{}">its images</a>', _images_url(obj))
            text = "{} is new here. Select {} and choose “process again” so that the present ones get it, too."
            messages.warning(request, format_html(text, ", ".join(sorted(added)), link))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Collection]) -> None:
        for collection in Collection.objects.filter(pk__in=list(queryset.values_list("pk", flat=True))):
            collection.delete()  # waits for workers that are storing regions

    def get_deleted_objects(
        self, objs: Sequence[Collection], request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """Says how much goes with them; Django would load and list every embedding."""
        images = Image.objects.filter(collection__in=[collection.pk for collection in objs]).count()
        lacking = set() if self.has_delete_permission(request) else {"collections"}
        return [str(each) for each in objs], {"collections": len(objs), "images": images}, lacking, []

    # --- The columns ----------------------------------------------------------------------------------------------

    @display(description="visibility", ordering="is_public", label={"public": "success", "private": "info"})  # type: ignore[untyped-decorator]
    def visibility(self, collection: Collection) -> str:
        return "public" if collection.is_public else "private"

    @admin.display(description="pipelines")
    def runs(self, collection: Collection) -> str:
        return ", ".join(collection.pipelines) or "none"

    @admin.display(description="images", ordering="image_count")
    def images(self, collection: Collection) -> SafeString:
        return _linked(collection.image_count, _images_url(collection))  # type: ignore[attr-defined]

    @admin.display(description="faces", ordering="face_count")
    def faces(self, collection: Collection) -> int:
        return collection.face_count  # type: ignore[attr-defined, no-any-return]

    @admin.display(description="unnamed faces", ordering="unnamed_count")
    def unnamed(self, collection: Collection) -> SafeString:
        return _linked(collection.unnamed_count, _images_url(collection, faces="unnamed"))  # type: ignore[attr-defined]

    @admin.display(description="failed", ordering="failed_count")
    def failed(self, collection: Collection) -> SafeString:
        return _linked(
            collection.failed_count,  # type: ignore[attr-defined]
            _images_url(collection, status__exact="failed"),
        )


def _images_url(collection: Collection, **narrowed: str) -> str:
    query = urlencode({"collection": str(collection.pk), **narrowed})
    return f"{reverse('admin:catalog_image_changelist')}?{query}"


def _linked(number: int, url: str) -> SafeString:
    return format_html('<a class="vs-link" href="{}">{}</a>', url, number) if number else format_html("{}", 0)
