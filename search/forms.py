"""What stands in an address of the page: where to search, how many results, with which region."""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import Http404, QueryDict
from django.utils.translation import gettext as _

from catalog.models import Collection, Image
from catalog.querysets import Viewer
from search.addresses import FIRST_RESULTS, Filters
from search.querying import MAX_K


class FilterForm(forms.Form):
    """Lenient: what cannot be read counts as not said, so that a cut-off address still shows results."""

    collection = forms.CharField(required=False, max_length=200)
    label = forms.CharField(required=False, max_length=200)
    k = forms.IntegerField(required=False)
    near = forms.BooleanField(required=False)
    region = forms.IntegerField(required=False, min_value=0)


def filters_of(data: QueryDict, viewer: Viewer) -> Filters:
    """Raises Http404 for a collection that is not there or that the viewer may not see."""
    form = FilterForm(data)
    form.is_valid()
    said: dict[str, Any] = form.cleaned_data
    label = said.get("label") or ""
    return Filters(
        collection=_collection(said.get("collection") or "", viewer),
        label=_as_spelt(label, viewer) if label else "",
        k=min(max(said.get("k") or FIRST_RESULTS, FIRST_RESULTS), MAX_K),
        near=said.get("near") or False,
        region=said.get("region"),
    )


def _collection(name: str, viewer: Viewer) -> Collection | None:
    if not name:
        return None
    found = Collection.objects.visible_to(viewer).filter(name=name).first()
    if found is None:
        raise Http404(_("There is no collection of that name, or you may not see it."))
    return found


def _as_spelt(label: str, viewer: Viewer) -> str:
    """The label as the images spell it: who types "SHOES" means "shoes"."""
    spelt = (
        Image.objects.visible_to(viewer).filter(label__iexact=label).order_by("label").values_list("label", flat=True)
    )
    known = list(spelt.distinct()[:10])
    return label if label in known or not known else known[0]
