"""Images: as a list and as a grid, narrowed, searched, and changed many at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from taggit.forms import TagField, TagWidget
from taggit.managers import TaggableManager
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RangeDateFilter
from unfold.decorators import display
from unfold.views import ChangeList
from unfold.widgets import INPUT_CLASSES, UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from catalog.admin import filters
from catalog.admin.base import user_of
from catalog.admin.chosen import CHANGED, Chosen, chosen, hidden_values
from catalog.admin.faces import FaceUrls
from catalog.admin.lines import image_url, thumbnail_url
from catalog.admin.near_duplicates import beside_image
from catalog.admin.saving import SavesWhatChanged
from catalog.curation import images as curation
from catalog.curation.errors import CurationError
from catalog.models import Collection, Image
from catalog.overview import with_face_counts
from catalog.querysets import ImageQuerySet
from catalog.records import NONE, moment

STATUS_COLOURS = {"ready": "success", "failed": "danger", "queued": "info", "processing": "info", "held": "warning"}
SHOWN_REFUSALS = 10
PREVIEWS = 12
TAGS: dict[str, Any] = {
    "widget": TagWidget(attrs={"class": " ".join(INPUT_CLASSES)}),
    "help_text": "Separated by commas.",
}


class ImageList(ChangeList):  # type: ignore[misc]  # unfold has no types
    """`view=grid` in the address is how the list is shown, and no filter."""

    def __init__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        self.is_grid = request.GET.get("view") == "grid"
        super().__init__(request, *args, **kwargs)

    def get_filters_params(self, params: Any = None) -> dict[str, Any]:
        narrowed: dict[str, Any] = super().get_filters_params(params)
        narrowed.pop("view", None)
        return narrowed

    @property
    def cards(self) -> list[dict[str, Any]]:
        """What the grid shows of each image."""
        return [
            {
                "image": image,
                "url": self.url_for_result(image),
                "thumbnail": thumbnail_url(image),
                "checkbox": self.model_admin.action_checkbox(image),
                "says": _says(image),
            }
            for image in self.result_list
        ]

    @property
    def as_list(self) -> str:
        return str(self.get_query_string(remove=["view"]))

    @property
    def as_grid(self) -> str:
        return str(self.get_query_string({"view": "grid"}))


class Nothing(forms.Form):
    """For what needs a yes, and no value."""


class MoveForm(forms.Form):
    collection = forms.ModelChoiceField(
        Collection.objects.none(), widget=UnfoldAdminSelectWidget, label="Move to", empty_label="Choose a collection"
    )


class CleanTags:
    """Tags as curation.images.tag takes them."""

    cleaned_data: dict[str, Any]

    def clean_tags(self) -> list[str]:
        names = [" ".join(name.split()) for name in self.cleaned_data["tags"]]
        for name in names:
            if len(name) > curation.TAG_LENGTH:
                raise ValidationError(
                    f"A tag has {len(name)} characters; {curation.TAG_LENGTH} are the most. Separate tags by commas."
                )
        return names


class ImageForm(CleanTags, forms.ModelForm):  # type: ignore[type-arg]
    """One image. Whether it is published is no field: a page that stayed open would publish again what was hidden."""


class TagForm(CleanTags, forms.Form):
    tags = TagField(**TAGS)


class LabelForm(forms.Form):
    label = forms.CharField(
        required=False,
        max_length=curation.LABEL_LENGTH,
        widget=UnfoldAdminTextInputWidget,
        help_text="Class or article number; empty takes the label off.",
    )


@admin.register(Image)
class ImageAdmin(SavesWhatChanged, FaceUrls):
    form = ImageForm
    change_list_template = "admin/catalog/images/change_list.html"
    list_display = ("thumbnail", "name", "in_collection", "state", "label", "faces", "tagged", "published", "put_in")
    list_display_links = ("thumbnail", "name")
    list_filter = (
        filters.CollectionFilter,
        ("status", ChoicesDropdownFilter),
        filters.PublishedFilter,
        filters.LabelFilter,
        filters.TagFilter,
        filters.FacesFilter,
        filters.PersonFilter,
        ("created_at", RangeDateFilter),
    )
    list_filter_submit = True
    list_per_page = 50
    search_fields = ("title", "label", "original_name", "external_id", "tags__name")
    search_help_text = "title, label, file name, external id or tag"
    ordering = ("-id",)
    actions = ("publish", "unpublish", "move", "tag", "set_label", "process_again", "delete_images")
    fields = ("title", "label", "tags", "external_id", "link", "source_url", "licence")
    change_form_outer_before_template = "admin/catalog/images/before.html"

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.published_view)
        return [path("<uuid:pk>/published/", view, name="catalog_image_published"), *super().get_urls()]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ImageList]:
        return ImageList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Image]:
        images = Image.objects.editable_by(request.user).select_related("collection").prefetch_related("tags")  # type: ignore[misc]
        return with_face_counts(images).order_by("-id")

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if isinstance(db_field, TaggableManager):
            return db_field.formfield(**{**kwargs, **TAGS})
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        image = self.get_object(request, object_id)
        context = {}
        if image is not None:
            context = {**self.face_context(request, image), "beside": beside_image(request, image)}
        return super().change_view(  # type: ignore[no-any-return]
            request, object_id, form_url, {**context, **(extra_context or {})}
        )

    def published_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """POST: publish or unpublish one on its page. A login on the way makes it a GET, which changes nothing."""
        self._image(request, pk)  # raises for whoever may not change it
        if request.method == "POST":
            change = self.publish if request.POST.get("published") == "1" else self.unpublish
            change(request, Image.objects.filter(pk=pk))
        return HttpResponseRedirect(image_url(pk))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # images come by upload, in their collection

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        found: dict[str, Any] = super().get_actions(request)
        found.pop("delete_selected", None)  # ours goes through the catalogue's deletion and says less
        return found

    def delete_model(self, request: HttpRequest, obj: Image) -> None:
        curation.delete(Image.objects.filter(pk=obj.pk), user_of(request))

    def log_deletions(self, request: HttpRequest, queryset: QuerySet[Image]) -> list[Any]:
        return []  # curation.delete has written it

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        lacking = set() if self.has_delete_permission(request) else {"images"}
        return [str(each) for each in objs], {"images": len(objs)}, lacking, []

    # --- The columns ----------------------------------------------------------------------------------------------

    @admin.display(description="image")
    def thumbnail(self, image: Image) -> SafeString:
        url = thumbnail_url(image)
        if not url:
            return format_html('<span class="vs-thumb vs-none">{}</span>', image.get_status_display())
        return format_html('<img class="vs-thumb" src="{}" alt="{}" loading="lazy">', url, image)

    @admin.display(description="name", ordering="title")
    def name(self, image: Image) -> str:
        return str(image)

    @admin.display(description="collection", ordering="collection__name")
    def in_collection(self, image: Image) -> str:
        return image.collection.name

    @display(description="status", ordering="status", label=STATUS_COLOURS)  # type: ignore[untyped-decorator]
    def state(self, image: Image) -> str:
        return image.status

    @admin.display(description="faces", ordering="face_count")
    def faces(self, image: Image) -> int | str:
        return image.face_count or NONE  # type: ignore[attr-defined]

    @admin.display(description="tags")
    def tagged(self, image: Image) -> str:
        return ", ".join(sorted(tag.name for tag in image.tags.all()))

    @admin.display(description="published", ordering="is_published", boolean=True)
    def published(self, image: Image) -> bool:
        return image.is_published

    @admin.display(description="put in", ordering="id")
    def put_in(self, image: Image) -> SafeString:
        return moment(image.created_at)

    # --- Many at once ---------------------------------------------------------------------------------------------

    @admin.action(description="Publish", permissions=["change"])
    def publish(self, request: HttpRequest, queryset: ImageQuerySet) -> None:
        self._say(request, queryset, curation.publish, "published", "published already")

    @admin.action(description="Unpublish", permissions=["change"])
    def unpublish(self, request: HttpRequest, queryset: ImageQuerySet) -> None:
        self._say(request, queryset, curation.unpublish, "taken out of search", "unpublished already")

    @admin.action(description="Process again", permissions=["change"])
    def process_again(self, request: HttpRequest, queryset: ImageQuerySet) -> None:
        self._say(request, queryset, curation.process_again, "will be processed again", "waiting already")

    @admin.action(description="Move to another collection", permissions=["change"])
    def move(self, request: HttpRequest, queryset: ImageQuerySet) -> HttpResponse | None:
        form = _form(request, MoveForm)
        mine = Collection.objects.editable_by(request.user).order_by("name")
        form.fields["collection"].queryset = mine  # type: ignore[attr-defined]
        images = chosen(request, queryset)
        if not form.is_valid() or not images.is_as_shown:
            return self._ask(request, images, "move", form, title="Move images", verb="Move")
        target = form.cleaned_data["collection"]
        moved = curation.move(images.images, target, user_of(request))
        if moved.moved:
            messages.success(request, f"{_images(moved.moved)} moved to {target}.")
        for image, reason in moved.refused[:SHOWN_REFUSALS]:
            messages.warning(request, f"{image} stays in {image.collection}: {reason}")
        if len(moved.refused) > SHOWN_REFUSALS:
            messages.warning(request, f"{len(moved.refused) - SHOWN_REFUSALS} more stay for such reasons.")
        return None

    @admin.action(description="Add tags", permissions=["change"])
    def tag(self, request: HttpRequest, queryset: ImageQuerySet) -> HttpResponse | None:
        form = _form(request, TagForm)
        images = chosen(request, queryset)
        if not form.is_valid() or not images.is_as_shown:
            return self._ask(request, images, "tag", form, title="Add tags", verb="Add")
        names = form.cleaned_data["tags"]
        self._say(
            request, images.images, lambda rows, user: curation.tag(rows, names, user), "tagged", "tagged so already"
        )
        return None

    @admin.action(description="Set the label", permissions=["change"])
    def set_label(self, request: HttpRequest, queryset: ImageQuerySet) -> HttpResponse | None:
        form = _form(request, LabelForm)
        images = chosen(request, queryset)
        if not form.is_valid() or not images.is_as_shown:
            return self._ask(request, images, "set_label", form, title="Set the label", verb="Set")
        label = form.cleaned_data["label"]
        done = "labelled" if label else "without a label now"
        self._say(request, images.images, lambda rows, user: curation.label(rows, label, user), done, "so already")
        return None

    @admin.action(description="Delete", permissions=["delete"])
    def delete_images(self, request: HttpRequest, queryset: ImageQuerySet) -> HttpResponse | None:
        form = _form(request, Nothing)
        images = chosen(request, queryset)
        if not form.is_valid() or not images.is_as_shown:
            return self._ask(request, images, "delete_images", form, title="Delete", verb="Delete", danger=True)
        self._say(request, images.images, curation.delete, "deleted, with files", "gone already")
        return None

    def _say(
        self, request: HttpRequest, images: ImageQuerySet, change: Callable[..., int], done: str, else_: str
    ) -> None:
        """Do it, and say of how many."""
        keys = list(images.order_by().values_list("pk", flat=True))
        try:
            count = change(Image.objects.filter(pk__in=keys), request.user)
        except CurationError as error:
            messages.error(request, str(error))
            return
        if count:
            messages.success(request, f"{_images(count)} {done}.")
        if count < len(keys):
            messages.info(request, f"{_images(len(keys) - count)} left alone: {else_}.")

    def _ask(
        self,
        request: HttpRequest,
        images: Chosen,
        action: str,
        form: forms.Form,
        *,
        title: str,
        verb: str,
        danger: bool = False,
    ) -> TemplateResponse:
        """The page between choosing an action and doing it."""
        shown = images.images.order_by("-id")[:PREVIEWS]
        context = {
            **self.admin_site.each_context(request),
            "title": title,
            "opts": self.opts,
            "form": form,
            "action": action,
            "verb": verb,
            "danger": danger,
            "count": images.count,
            "changed": "" if images.is_as_shown else CHANGED,
            "previews": [{"url": thumbnail_url(image), "name": str(image)} for image in shown],
            "hidden": hidden_values(request, images),
        }
        return TemplateResponse(request, "admin/catalog/images/ask.html", context)


def _form(request: HttpRequest, kind: type[forms.Form]) -> forms.Form:
    """Bound once the page between was sent."""
    return kind(request.POST) if "apply" in request.POST else kind()


def _says(image: Image) -> str:
    """The line below an image in the grid."""
    faces = image.face_count  # type: ignore[attr-defined]
    parts = [
        "" if image.is_published else "not published",
        image.label,
        f"{faces} {'face' if faces == 1 else 'faces'}" if faces else "",
    ]
    return ", ".join(part for part in parts if part) or image.collection.name


def _images(count: int) -> str:
    return f"{count} image" if count == 1 else f"{count} images"
