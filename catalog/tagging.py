"""Tags of many images in few statements, so that two who bring the same new tags in another order never deadlock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from django.contrib.contenttypes.models import ContentType
from taggit.models import Tag

from catalog.models import Image, UUIDTaggedItem


def tags_named(names: Iterable[str]) -> dict[str, int]:
    """The keys of these tags by their names; new ones are made, in the order of their names.

    Not in a transaction that does more: whoever makes the same tag waits until it ends.
    """
    wanted = sorted(set(names))
    found = _found(wanted)
    new = [Tag(name=name) for name in wanted if name not in found]
    if new:
        for tag in new:
            tag.slug = tag.slugify(tag.name)
        Tag.objects.bulk_create(new, ignore_conflicts=True)
        found = _found(wanted)
    for name in wanted:  # another tag has its slug ("a b" and "a-b"): taggit finds one that is free
        if name not in found:
            found[name] = Tag.objects.get_or_create(name=name)[0].pk
    return found


def _found(names: Sequence[str]) -> dict[str, int]:
    return dict(Tag.objects.filter(name__in=names).values_list("name", "pk")) if names else {}


def tag_new_images(tagged: Mapping[Image, Sequence[str]], tags: Mapping[str, int]) -> None:
    """Give images that had none their tags; ``tags``: of `tags_named`."""
    if any(tagged.values()):
        kind = ContentType.objects.get_for_model(Image)
        UUIDTaggedItem.objects.bulk_create(
            UUIDTaggedItem(tag_id=tags[name], content_type=kind, object_id=image.pk)
            for image, names in tagged.items()
            for name in dict.fromkeys(names)
        )
