"""New jobs from a list of addresses and from a CSV file: all that is wrong with it is shown before anything is stored.

The page of addresses names its job's id before the job exists, so that a form that is sent twice makes one. CSV files
are known again by their content (catalog.intake.csv_files).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.defaultfilters import pluralize
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget
from uuid_utils.compat import uuid7

from catalog import broker
from catalog.admin.base import CatalogAdmin, user_of, uuid_of
from catalog.admin.job_actions import job_url, may_run_jobs
from catalog.api.bodies import UPLOAD_REFUSED, content_of
from catalog.intake import csv_files, url_lists
from catalog.intake.csv_rows import COLUMNS
from catalog.intake.errors import JobError, ListRefused, Problem
from catalog.models import Collection, IntakeJob

NORMALISE = [
    ("", "Keep the files as they are"),
    ("longest:1024", "Longest side at most 1024 pixels"),
    ("longest:2048", "Longest side at most 2048 pixels"),
    ("square:512", "Exact square of 512 pixels"),
]
FILE = {"class": "vs-files"}


class ListForm(forms.Form):
    """What both pages ask for. Of a list that is wrong ``refused`` says how; ``repeated`` of one that is right."""

    collection = forms.ModelChoiceField(
        Collection.objects.none(), widget=UnfoldAdminSelectWidget, empty_label="Choose a collection"
    )
    normalise = forms.ChoiceField(
        choices=NORMALISE,
        required=False,
        widget=UnfoldAdminSelectWidget,
        label="Size",
        help_text="What is made of each file before it is kept.",
    )

    def __init__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user_of(request)
        self.too_large = request.META.get(UPLOAD_REFUSED)  # then the form came without its file
        self.refused: ListRefused | None = None
        self.repeated: Sequence[Problem] = ()
        chosen = self.fields["collection"]
        assert isinstance(chosen, forms.ModelChoiceField)
        chosen.queryset = Collection.objects.editable_by(request.user)

    def clean(self) -> dict[str, Any]:
        if self.too_large is not None:
            self.errors.clear()  # that fields behind it are missing is no wonder
            raise forms.ValidationError(str(self.too_large))
        if not self.errors:
            try:
                self.read()
            except ListRefused as refused:
                self.refused = refused
        return self.cleaned_data

    def read(self) -> None:
        """Raises ListRefused and ValidationError."""
        raise NotImplementedError

    def start(self) -> Sequence[IntakeJob]:
        """Of a form that is valid. Raises JobError."""
        raise NotImplementedError


class AddressesForm(ListForm):
    job = forms.UUIDField(widget=forms.HiddenInput)
    addresses = forms.CharField(
        required=False,
        strip=False,
        widget=UnfoldAdminTextareaWidget({"rows": 10, "spellcheck": "false", "placeholder": "https://"}),
        help_text="One a line. Empty lines, and those that begin with #, are left out.",
    )
    file = forms.FileField(
        required=False,
        allow_empty_file=True,
        widget=forms.FileInput(attrs={**FILE, "accept": ".txt,.list,text/plain"}),
        label="Or a file of them",
    )
    field_order = ("job", "addresses", "file", "collection", "normalise")

    def read(self) -> None:
        pasted, file = self.cleaned_data["addresses"], self.cleaned_data["file"]
        if pasted.strip() and file:
            raise forms.ValidationError("Paste the addresses or choose a file of them, not both.")
        if not pasted.strip() and not file:
            raise forms.ValidationError("Paste at least one address, or choose a file.")
        self.list = url_lists.read(content_of(file).read() if file else pasted)
        self.repeated = self.list.repeated

    def start(self) -> Sequence[IntakeJob]:
        said = self.cleaned_data
        name = said["file"].name if said["file"] else ""
        job = url_lists.start(
            said["collection"],
            self.list,
            name=name,
            normalise=said["normalise"],
            user=self.user,
            job_id=said["job"],
        )
        return [job]


class CsvForm(ListForm):
    file = forms.FileField(
        allow_empty_file=True, widget=forms.FileInput(attrs={**FILE, "accept": ".csv,text/csv"}), label="CSV file"
    )
    field_order = ("file", "collection", "normalise")

    def __init__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().__init__(request, *args, **kwargs)
        self.fields["collection"].required = False
        self.fields["collection"].help_text = "Of the rows that name none."

    def read(self) -> None:
        file: UploadedFile[bytes] = self.cleaned_data["file"]
        self.plan = csv_files.read(
            content_of(file).read(),
            name=file.name or "",
            collections=Collection.objects.editable_by(self.user),
            default=self.cleaned_data["collection"],
            user=self.user,
        )
        self.repeated = self.plan.repeated

    def start(self) -> Sequence[IntakeJob]:
        return csv_files.start(self.plan, normalise=self.cleaned_data["normalise"], user=self.user)


class JobLists(CatalogAdmin):
    """The pages `lists/addresses/` and `lists/csv/`."""

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("lists/addresses/", wrap(self.addresses_view), name="catalog_intakejob_addresses"),
            path("lists/csv/", wrap(self.csv_list_view), name="catalog_intakejob_csv_list"),
        ]
        return [*own, *super().get_urls()]

    def addresses_view(self, request: HttpRequest) -> HttpResponse:
        return self._list_view(request, AddressesForm, "Add by list of addresses", {"job": uuid7()})

    def csv_list_view(self, request: HttpRequest) -> HttpResponse:
        return self._list_view(request, CsvForm, "Add by CSV", {})

    def _list_view(
        self, request: HttpRequest, form_class: type[ListForm], title: str, initial: dict[str, Any]
    ) -> HttpResponse:
        if not may_run_jobs(request):
            raise PermissionDenied
        initial["collection"] = uuid_of(request.GET.get("collection", ""))
        sent = (request.POST, request.FILES) if request.method == "POST" else ()
        form = form_class(request, *sent, initial=initial)
        if form.is_valid() and not form.refused:
            try:
                return _started(request, form, form.start())
            except JobError as error:
                form.add_error(None, str(error))
        context = {
            **self.admin_site.each_context(request),
            "title": title,
            "opts": self.opts,
            "form": form,
            "columns": [name for name in COLUMNS if name != "path"],  # files of the server are the command's
            "is_csv": form_class is CsvForm,
            "notice": broker.AWAY if broker.is_away() else "",
        }
        return TemplateResponse(request, "admin/catalog/jobs/list.html", context)


def _started(request: HttpRequest, form: ListForm, jobs: Sequence[IntakeJob]) -> HttpResponse:
    if form.repeated:
        count = len(form.repeated)
        messages.info(request, f"{count} line{pluralize(count)} left out, as an earlier one says the same.")
    if again := sum(job.tried_again for job in jobs):
        what = "line that had failed is" if again == 1 else "lines that had failed are"
        messages.info(request, f"This list is not finished: its job goes on, and {again} {what} tried again.")
    if len(jobs) == 1:
        return HttpResponseRedirect(job_url(jobs[0].pk))
    messages.success(request, f"{len(jobs)} jobs, one for each collection.")
    return HttpResponseRedirect(reverse("admin:catalog_intakejob_changelist"))
