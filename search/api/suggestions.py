"""Who a face may be, for the script of the admin that names faces. With the admin's session, no part of /api/v1/."""

from __future__ import annotations

from uuid import UUID

from django.contrib.admin.views.decorators import staff_member_required
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from catalog.exceptions import NoServingModel
from catalog.models import Region
from catalog.regions import FACE
from search.exceptions import NothingToSearchWith
from search.suggestions import NEAR, SAME, Suggestion, suggest_people

WORDS = {SAME: "very likely the same", NEAR: "possibly the same", None: "not measured"}


@require_GET
@never_cache
@staff_member_required
def face_suggestions(request: HttpRequest, pk: UUID) -> JsonResponse:
    """For editors of the face's collection: ``{"people": [...], "note": why there are none}``."""
    user = request.user
    assert isinstance(user, User)
    region = get_object_or_404(Region.objects.editable_by(user).filter(pipeline=FACE).select_related("image"), pk=pk)
    if not user.has_perm("catalog.change_image"):
        raise PermissionDenied
    try:
        people = [_as_json(each) for each in suggest_people(region, user)]
    except (NothingToSearchWith, NoServingModel) as error:
        return JsonResponse({"people": [], "note": str(error)})
    others = "Nobody else" if region.person_id else "Nobody"
    return JsonResponse({"people": people, "note": "" if people else f"{others} who was named looks like this face."})


def _as_json(suggestion: Suggestion) -> dict[str, str]:
    return {
        "person": str(suggestion.person.pk),
        "name": suggestion.person.name,
        "distance": f"{suggestion.distance:.3f}",
        "likeness": WORDS[suggestion.likeness],
    }
