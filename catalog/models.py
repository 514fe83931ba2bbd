"""What is known about images. The rules that must never break are in the database: see each model's constraints.

Every address uses a UUIDv7 key. Embeddings alone have an int64 key: it is what the index stores, and it grows in commit
order (see Embedding).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import HashIndex
from django.db import models, transaction
from django.db.models import F, Func, Q
from django.db.models.lookups import Exact
from django.utils import timezone
from taggit.managers import TaggableManager
from taggit.models import GenericUUIDTaggedItemBase, TaggedItemBase
from uuid_utils.compat import uuid7

from catalog.querysets import CollectionQuerySet, ImageQuerySet, PersonQuerySet, RegionQuerySet


class Collection(models.Model):
    """Images that belong together: who may see them, which pipelines run on them, who may search faces in them."""

    class FaceSearch(models.TextChoices):
        STAFF = "staff", "staff only"
        EVERYONE = "everyone", "everyone"

    class NearDuplicates(models.TextChoices):
        OFF = "off", "not looked for"
        WARN = "warn", "processed, and listed for a choice"
        HOLD = "hold", "held until somebody has chosen"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=200, unique=True)
    description = models.TextField(blank=True)
    is_public = models.BooleanField(default=False, help_text="Anybody may see its published images.")
    pipelines = ArrayField(
        models.CharField(max_length=50), default=list, blank=True, help_text="What runs on its images: face, image."
    )
    face_search = models.CharField(
        max_length=10,
        choices=FaceSearch,
        default=FaceSearch.STAFF,
        help_text="staff: the groups that this collection is given to, its editors and viewers.",
    )
    near_duplicates = models.CharField(
        max_length=10,
        choices=NearDuplicates,
        default=NearDuplicates.WARN,
        help_text="What happens to an image that looks like one that is here already. Off for drawings and digits.",
    )
    editors = models.ManyToManyField(Group, blank=True, related_name="edits")
    viewers = models.ManyToManyField(Group, blank=True, related_name="views")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = CollectionQuerySet.as_manager()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Waits for whoever is putting images in, or storing regions of them, so that those go, too.

        Locked in the order in which everybody does: the collection, its jobs, its images.
        """
        with transaction.atomic():
            rows = Collection.objects.select_for_update(no_key=True)  # who stores an image waits for its key
            list(rows.filter(pk=self.pk).values_list("pk"))
            list(self.jobs.select_for_update().order_by("pk").values_list("pk"))
            self.images.all().lock()
            return super().delete(*args, **kwargs)

    @property
    def index_key(self) -> int:
        """The int64 that stands for this collection in an index file: the low 63 bits of its id.

        62 of them are random; should two collections ever share one, hits are still filtered by the database.
        """
        return int(self.id) & ((1 << 63) - 1)


class UUIDTaggedItem(GenericUUIDTaggedItemBase, TaggedItemBase):  # type: ignore[misc]  # taggit has no types
    """A tag on something with a UUID key."""


def _band(number: int) -> models.GeneratedField:
    """16 bits of ``phash``, beginning with the lowest: what near duplicates are looked up by (catalog.duplicates)."""
    shifted = F("phash").bitrightshift(16 * number)
    return models.GeneratedField(
        expression=shifted.bitand(0xFFFF), output_field=models.IntegerField(null=True), db_persist=True
    )


class Image(models.Model):
    """One image file of one collection, and what became of it.

    ::

        held ──► queued ──► processing ──► ready
                   ▲            │ │
                   │  lease over│ └──────► failed (reason)
                   └────────────┘            │
                   └───── process again ─────┘

    held: stored, waiting for somebody's decision (``held_for``). queued: waiting for a worker. processing: claimed by
    ``claimed_by`` until ``lease_until``; a claim that runs out is taken again, VISEARCH_MAX_ATTEMPTS times at most. A
    queued image with a ``lease_until`` was given back by its worker (``reason`` says why) and rests until then. What
    was ready once (``processed_at``) stays findable while it is processed again.
    """

    class Status(models.TextChoices):
        HELD = "held"
        QUEUED = "queued"
        PROCESSING = "processing"
        READY = "ready"
        FAILED = "failed"

    class HeldFor(models.TextChoices):
        NOTHING = "", "not held"
        PAUSE = "pause", "its job is paused"
        CANCEL = "cancel", "its job was cancelled"
        NEAR_DUPLICATE = "near-duplicate", "it looks like another image"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    collection = models.ForeignKey(Collection, on_delete=models.CASCADE, related_name="images")

    sha256 = models.CharField(max_length=64)
    source_sha256 = models.CharField(
        max_length=64,
        blank=True,
        editable=False,
        help_text="Of the file as it came, where a smaller one was made of it.",
    )
    phash = models.BigIntegerField(null=True, editable=False, help_text="Perceptual hash, see catalog.vision.likeness.")
    phash_mirrored = models.BigIntegerField(null=True, editable=False, help_text="The same of the mirrored image.")
    phash_band_0 = _band(0)
    phash_band_1 = _band(1)
    phash_band_2 = _band(2)
    phash_band_3 = _band(3)
    version_of = models.ForeignKey(
        "self", null=True, blank=True, editable=False, on_delete=models.SET_NULL, related_name="versions"
    )
    format = models.CharField(max_length=10, help_text="What the content says: JPEG, PNG, ...")
    width = models.PositiveIntegerField(help_text="Pixels, after EXIF orientation.")
    height = models.PositiveIntegerField(help_text="Pixels, after EXIF orientation.")
    byte_size = models.PositiveBigIntegerField()
    taken_at = models.DateTimeField(null=True, blank=True, help_text="From EXIF, read as UTC: EXIF has no time zone.")
    original_name = models.CharField(max_length=255, blank=True, help_text="The uploader's name for it: data only.")

    title = models.CharField(max_length=300, blank=True)
    label = models.CharField(max_length=200, blank=True, db_index=True, help_text="Class or article number.")
    external_id = models.CharField(max_length=200, blank=True, db_index=True)
    link = models.URLField(max_length=2000, blank=True, help_text="Where a shopper goes from here.")
    source_url = models.URLField(max_length=2000, blank=True)
    licence = models.CharField(max_length=200, blank=True)
    tags = TaggableManager(blank=True, through=UUIDTaggedItem)
    is_published = models.BooleanField(default=True, db_index=True)
    uploader = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL)

    status = models.CharField(max_length=10, choices=Status, default=Status.QUEUED)
    held_for = models.CharField(max_length=20, choices=HeldFor, default=HeldFor.NOTHING, blank=True, editable=False)
    reason = models.TextField(blank=True, help_text="Why it failed, or what it waits for.")
    claimed_by = models.CharField(max_length=200, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    processed_at = models.DateTimeField(null=True, blank=True)

    objects = ImageQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["collection", "sha256"], name="one_image_per_sha256_and_collection"),
            models.CheckConstraint(condition=Q(sha256__regex=r"^[0-9a-f]{64}$"), name="sha256_is_hex"),
            models.CheckConstraint(condition=Q(width__gt=0, height__gt=0, byte_size__gt=0), name="image_has_a_size"),
            models.CheckConstraint(condition=~Q(status="failed") | ~Q(reason=""), name="a_failed_image_has_a_reason"),
            models.CheckConstraint(
                condition=Q(status="processing", lease_until__isnull=False) | ~Q(status="processing"),
                name="a_claim_has_a_lease",
            ),
            models.CheckConstraint(
                condition=Q(status="held") | Q(held_for=""),
                name="only_what_is_held_is_held_for_something",
            ),
            models.CheckConstraint(condition=~Q(version_of=F("id")), name="no_image_is_a_version_of_itself"),
        ]
        indexes = [
            models.Index(fields=["id"], name="image_waiting", condition=Q(status__in=["queued", "processing"])),
            models.Index(fields=["held_for"], name="image_held", condition=Q(status="held")),
            models.Index(fields=["collection", "source_sha256"], name="image_source", condition=~Q(source_sha256="")),
            *(
                models.Index(fields=["collection", f"phash_band_{band}"], name=f"image_phash_band_{band}")
                for band in range(4)
            ),
        ]

    def __str__(self) -> str:
        return self.title or self.original_name or str(self.id)

    @property
    def is_findable(self) -> bool:
        """As ``catalog.querysets.findable``."""
        waits = self.status in {self.Status.QUEUED, self.Status.PROCESSING}
        return self.status == self.Status.READY or (waits and self.processed_at is not None)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Waits for a worker that is storing its regions, so that those go, too."""
        with transaction.atomic():
            Image.objects.filter(pk=self.pk).lock()
            return super().delete(*args, **kwargs)


class DoomedFiles(models.Model):
    """Files of an image whose row is gone, until they are gone too.

    Made in the transaction that deletes the image (catalog.deletion), so that nobody who dies after its commit, and no
    storage that is away in that moment, leaves a file that nothing knows of.
    """

    image_id = models.UUIDField(primary_key=True, editable=False)
    format = models.CharField(max_length=10)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["created_at"]
        verbose_name_plural = "doomed files"

    def __str__(self) -> str:
        return f"files of {self.image_id}"


class NearDuplicate(models.Model):
    """An image that came in looks like one that was here. Waits for a choice while ``decision`` is empty.

    ``distance``: bits in which the perceptual hashes differ, of 64; ``is_mirrored``: of the mirrored image's. Where one
    of the two was chosen to go, this went with it: the log has it (catalog.curation.duplicates).
    """

    class Decision(models.TextChoices):
        OPEN = "", "not decided"
        KEEP = "keep", "both kept"
        VERSION = "version", "linked as a version"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    image = models.ForeignKey(Image, on_delete=models.CASCADE, related_name="looks_like")
    other = models.ForeignKey(Image, on_delete=models.CASCADE, related_name="looked_like_by")
    distance = models.PositiveSmallIntegerField()
    is_mirrored = models.BooleanField(default=False)
    decision = models.CharField(max_length=10, choices=Decision, default=Decision.OPEN, blank=True)
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    decided_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["image", "other"], name="a_likeness_is_noted_once"),
            models.CheckConstraint(condition=~Q(image=F("other")), name="no_image_is_like_itself"),
        ]
        indexes = [models.Index(fields=["image"], name="near_duplicate_open", condition=Q(decision=""))]

    def __str__(self) -> str:
        return f"{self.image_id} looks like {self.other_id}"


class DiscardedFile(models.Model):
    """A file whose image somebody let go for ``kept``, which it looks like: brought again, it is a duplicate of that.

    ``sha256`` of the file as it was kept, or as it came (Image.source_sha256): a row for each. Goes with ``kept``, and
    holds in its collection.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    sha256 = models.CharField(max_length=64, db_index=True)
    name = models.CharField(max_length=255, blank=True)
    kept = models.ForeignKey(Image, on_delete=models.CASCADE, related_name="stands_for")
    discarded_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["kept", "sha256"], name="a_file_is_discarded_once_for_an_image")]

    def __str__(self) -> str:
        return self.name or self.sha256[:12]


class Person(models.Model):
    """Somebody whose faces were named. Named on a region, never on an image.

    A person who was merged into another keeps row and name, without faces, so that the merge can be undone and the old
    name leads to the other one. Who goes for good takes those merged into them along.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=200, unique=True)
    notes = models.TextField(blank=True)
    merged_into = models.ForeignKey(
        "self", null=True, blank=True, editable=False, on_delete=models.CASCADE, related_name="merged"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = PersonQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        verbose_name_plural = "people"
        constraints = [
            models.CheckConstraint(condition=~Q(merged_into=F("id")), name="nobody_is_merged_into_themselves"),
        ]

    def __str__(self) -> str:
        return self.name

    def current(self) -> Person:
        """This person, or whom they were merged into, and on from there."""
        person, seen = self, {self.pk}
        while person.merged_into is not None and person.merged_into.pk not in seen:
            person = person.merged_into
            seen.add(person.pk)
        return person


class Region(models.Model):
    """A box worth a vector, in pixels of the oriented original: a face, or the whole frame."""

    class Origin(models.TextChoices):
        DETECTOR = "detector"
        PERSON = "person", "drawn by a person"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    image = models.ForeignKey(Image, on_delete=models.CASCADE, related_name="regions")
    pipeline = models.CharField(max_length=50)
    x = models.FloatField()
    y = models.FloatField()
    width = models.FloatField()
    height = models.FloatField()
    origin = models.CharField(max_length=10, choices=Origin, default=Origin.DETECTOR)
    detector = models.CharField(max_length=100, blank=True, help_text="Name and fingerprint of what found it.")
    score = models.FloatField(null=True, help_text="The detector's own confidence, 0 to 1.")
    landmarks = models.JSONField(null=True, help_text="Five [x, y] points, see catalog.vision.types.Detection.")
    person = models.ForeignKey(Person, null=True, blank=True, on_delete=models.SET_NULL, related_name="regions")
    dismissed = models.BooleanField(default=False, help_text="Somebody said: not a face.")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = RegionQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(condition=Q(x__gte=0, y__gte=0, width__gt=0, height__gt=0), name="region_has_area"),
        ]

    def __str__(self) -> str:
        return f"{self.pipeline} {self.x:.0f},{self.y:.0f} {self.width:.0f}x{self.height:.0f}"


class FaceRejection(models.Model):
    """Somebody said: this face is not this person. Nothing that names or suggests by itself may say so again."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    region = models.ForeignKey(Region, on_delete=models.CASCADE, related_name="rejections")
    person = models.ForeignKey(Person, on_delete=models.CASCADE, related_name="rejections")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["region", "person"], name="a_face_is_rejected_once")]

    def __str__(self) -> str:
        return f"not {self.person_id}: {self.region_id}"


class PersonMerge(models.Model):
    """Two people became one. ``regions`` are the keys of the faces that moved, so that it can be undone."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    kept = models.ForeignKey(Person, on_delete=models.CASCADE, related_name="merges")
    gone = models.ForeignKey(Person, on_delete=models.CASCADE, related_name="merges_away")
    regions = models.JSONField(default=list)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    undone_at = models.DateTimeField(null=True, blank=True)
    undone_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.gone} into {self.kept}"


class EmbeddingModel(models.Model):
    """One embedder at one fingerprint. Embeddings of different models are never compared.

    ::

        building ──► serving ──► retired          (retired ──► serving is the way back)

    One model serves per pipeline. ``same_distance`` and ``near_distance`` come from a measured evaluation, kept whole
    in ``evaluation``; both are null where nothing was measured.

    A taught model (catalog.vision.heads) is derived from another one, whose stored vectors it moves. It was compared
    with it (``teaching``, search.teaching), and serves only if it passed.

    ``fill``: whether workers compute the embeddings that it lacks while another model serves, now and of what is put in
    later (catalog.keeping). ``filled_to``: the highest id of the serving model's embeddings that was looked at for it.
    """

    class State(models.TextChoices):
        BUILDING = "building"
        SERVING = "serving"
        RETIRED = "retired"

    class Fill(models.TextChoices):
        NO = "", "no"
        ASKED = "asked", "kept up"
        PAUSED = "paused"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    pipeline = models.CharField(max_length=50)
    embedder = models.CharField(max_length=100, help_text="A key of VISEARCH_EMBEDDERS, or of a taught head.")
    fingerprint = models.CharField(max_length=64, help_text="sha256 of source weights, code version and options.")
    dimension = models.PositiveIntegerField()
    licence = models.CharField(max_length=200)
    source = models.CharField(max_length=500)
    state = models.CharField(max_length=10, choices=State, default=State.BUILDING)
    same_distance = models.FloatField(null=True, blank=True)
    near_distance = models.FloatField(null=True, blank=True)
    evaluation = models.JSONField(default=dict, blank=True)
    derived_from = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="derived")
    passed_gate = models.BooleanField(null=True, blank=True, help_text="Of a taught model: it may serve.")
    teaching = models.JSONField(default=dict, blank=True, help_text="What it was taught on, and how it compared.")
    retired_at = models.DateTimeField(null=True, blank=True, help_text="When it last ceased to serve.")
    fill = models.CharField(
        max_length=10,
        choices=Fill,
        default=Fill.NO,
        blank=True,
        help_text="Whether workers compute what it lacks while another model serves.",
    )
    filled_to = models.BigIntegerField(default=0, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["pipeline", "id"]
        constraints = [
            models.UniqueConstraint(fields=["pipeline", "embedder", "fingerprint"], name="one_row_per_fingerprint"),
            models.UniqueConstraint(fields=["pipeline"], condition=Q(state="serving"), name="one_serving_per_pipeline"),
            # What the composite foreign key of Embedding points at (migration 0002).
            models.UniqueConstraint(fields=["id", "dimension"], name="model_and_dimension"),
            models.CheckConstraint(condition=Q(dimension__gt=0), name="model_has_a_dimension"),
            models.CheckConstraint(condition=~Q(derived_from=F("id")), name="no_model_is_derived_from_itself"),
            models.CheckConstraint(
                condition=Q(derived_from__isnull=True, passed_gate__isnull=True)
                | Q(derived_from__isnull=False, passed_gate__isnull=False),
                name="a_taught_model_was_compared",
            ),
            models.CheckConstraint(
                condition=~Q(state="serving") | Q(passed_gate__isnull=True) | Q(passed_gate=True),
                name="only_what_passed_may_serve",
            ),
            models.CheckConstraint(
                # IS NOT NULL said aloud: a check that compares with NULL holds.
                condition=Q(same_distance__isnull=True, near_distance__isnull=True)
                | Q(
                    same_distance__isnull=False,
                    near_distance__isnull=False,
                    same_distance__gte=0,
                    near_distance__gt=F("same_distance"),
                ),
                name="near_is_beyond_same",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.embedder} {self.fingerprint[:12]}"


class Embedding(models.Model):
    """The vector of one region by one model, as the network gives it: little-endian float32, ``dimension`` of them.

    Immutable: a new vector is a new row with a new id. Ids commit in order, because whoever stores embeddings locks the
    model's row first (catalog.processing), so "newer than the generation" is one comparison. That ``dimension`` is the
    model's is a composite foreign key, made in migration 0002.
    """

    id = models.BigAutoField(primary_key=True)
    region = models.ForeignKey(Region, on_delete=models.CASCADE, related_name="embeddings")
    model = models.ForeignKey(EmbeddingModel, on_delete=models.PROTECT, related_name="embeddings")
    dimension = models.PositiveIntegerField()
    vector = models.BinaryField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["region", "model"], name="one_embedding_per_region_and_model"),
            models.CheckConstraint(
                condition=Exact(
                    Func(F("vector"), function="octet_length", output_field=models.IntegerField()), F("dimension") * 4
                ),
                name="vector_has_its_dimension",
            ),
        ]
        indexes = [models.Index(fields=["model", "id"], name="embedding_of_model")]

    def __str__(self) -> str:
        return f"embedding {self.pk}"


class IntakeJob(models.Model):
    """One act of putting images in: an upload, a folder, a list of addresses. Its lines say what became of each file.

    ::

        running ◄──► paused         either ──► cancelled ──► running (retry)

    Whether a running job is finished its lines say: none is waiting, none is receiving, no image of it is queued.
    ``normalise``: what is made of every file before it is kept (catalog.vision.normalising); "" keeps it as it is.
    """

    class Source(models.TextChoices):
        API = "api", "Upload by the API"
        ADMIN = "admin", "Upload"
        FOLDER = "folder", "Import of a folder"
        URLS = "urls", "List of addresses"
        CSV = "csv", "CSV file"

    class State(models.TextChoices):
        RUNNING = "running"
        PAUSED = "paused"
        CANCELLED = "cancelled"

    tried_again = 0  # no column: how many lines whoever began it once more took up (catalog.intake.jobs.take_up_again)

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    collection = models.ForeignKey(Collection, on_delete=models.CASCADE, related_name="jobs")
    source = models.CharField(max_length=10, choices=Source)
    name = models.CharField(max_length=255, blank=True, help_text="Of the list or folder: data only.")
    state = models.CharField(max_length=10, choices=State, default=State.RUNNING)
    normalise = models.CharField(max_length=20, blank=True, help_text="longest:1024, square:512, or empty.")
    digest = models.CharField(
        max_length=64, blank=True, editable=False, help_text="sha256 of its list: the same one goes on where it was."
    )
    begun_on = models.CharField(
        max_length=255, blank=True, editable=False, help_text="The host whose files it puts in, as it calls itself."
    )
    started_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.get_source_display()}, {timezone.localtime(self.created_at):%Y-%m-%d %H:%M}"

    @property
    def is_operators(self) -> bool:
        """Begun by a command: nobody, or somebody whose account is gone, has `started_by` None, too."""
        return self.started_by_id is None and (self.source == self.Source.FOLDER or bool(self.begun_on))


class IntakeLine(models.Model):
    """One file of a job, and the log written ahead of storing it.

    ::

        waiting ──► receiving ──► stored | duplicate (image: the one already here) | refused (reason) | failed (reason)
           │  ▲                                                                          │                  │
           │  └──────────────────────── retry ◄──────────────────────────────────────────┴──────────────────┘
           └──► cancelled ──► waiting (retry)

    A line of a list is planned as ``waiting``: whoever takes it claims it (``claimed_by`` until ``lease_until``); one
    that is not claimed but has a ``lease_until`` rests until then (``reason`` says why). It says where its file is:
    ``url``, or ``path`` on the host where the command runs; ``facts`` are what the list says of it (ImageFacts).

    A line is committed as ``receiving`` with the key its file will get (``reserved_key``) before the file is written.
    Whoever dies in between leaves that line, and the sweep removes the file that has no image (catalog.recovery); where
    the line says where its file is, it waits again.
    """

    class Verdict(models.TextChoices):
        WAITING = "waiting"
        RECEIVING = "receiving"
        STORED = "stored"
        DUPLICATE = "duplicate"
        REFUSED = "refused"
        FAILED = "failed"
        CANCELLED = "cancelled"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    job = models.ForeignKey(IntakeJob, on_delete=models.CASCADE, related_name="lines")
    number = models.PositiveIntegerField(null=True, blank=True, help_text="Of the line in its list, from 1.")
    source = models.CharField(
        max_length=2000, help_text="File name, path or address, as it was called where it came from."
    )
    url = models.CharField(max_length=2000, blank=True, help_text="Where workers fetch it.")
    host = models.CharField(max_length=255, blank=True, help_text="Of the address: few are fetched from one at a time.")
    path = models.TextField(blank=True, help_text="Where the command that planned it finds the file.")
    facts = models.JSONField(default=dict, blank=True, help_text="Fields of catalog.uploads.ImageFacts.")
    verdict = models.CharField(max_length=10, choices=Verdict, default=Verdict.RECEIVING)
    code = models.CharField(max_length=50, blank=True, help_text="Stable code of a refusal.")
    reason = models.TextField(blank=True)
    image = models.ForeignKey(Image, null=True, blank=True, on_delete=models.SET_NULL, related_name="intake_lines")
    person_name = models.CharField(
        max_length=200, blank=True, help_text="Named on its face, should exactly one be found."
    )
    reserved_key = models.CharField(max_length=200, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    slow_downs = models.PositiveSmallIntegerField(default=0, help_text="How often its server asked to be left alone.")
    claimed_by = models.CharField(max_length=200, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    received_at = models.DateTimeField(null=True, blank=True, help_text="When it was last begun to be received.")
    ended_at = models.DateTimeField(
        null=True, blank=True, help_text="When it last came to its end, or its image failed; of lines that ended."
    )

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(
                condition=~Q(verdict__in=["refused", "failed"]) | ~Q(reason=""), name="a_refusal_has_a_reason"
            ),
            models.UniqueConstraint(
                fields=["job", "number"], name="a_line_has_its_number_alone", condition=Q(number__isnull=False)
            ),
        ]
        indexes = [
            models.Index(fields=["id"], name="line_unfinished", condition=Q(verdict="receiving")),
            models.Index(fields=["job", "id"], name="line_waiting", condition=Q(verdict="waiting")),
            models.Index(fields=["ended_at"], name="line_failed", condition=Q(verdict="failed")),
            # What is claimed by (catalog.intake.lines): the hosts of a job, and those that are busy or rest.
            models.Index(
                fields=["job", "host", "id"], name="line_to_fetch", condition=Q(verdict="waiting") & ~Q(url="")
            ),
            models.Index(
                fields=["host"],
                name="line_claimed_or_resting",
                condition=Q(verdict="waiting", lease_until__isnull=False),
            ),
            HashIndex(fields=["url"], name="line_url", condition=~Q(url="")),
        ]

    def __str__(self) -> str:
        return f"{self.source}: {self.verdict}"

    @property
    def rests_until(self) -> datetime | None:
        """The moment before which nobody takes this waiting line; None where it rests for nothing."""
        return self.lease_until if self._is_leased and not self.claimed_by else None

    @property
    def is_claimed(self) -> bool:
        """Somebody is at this waiting line: fetches or opens its file."""
        return self._is_leased and bool(self.claimed_by)

    @property
    def _is_leased(self) -> bool:
        is_waiting = self.verdict == self.Verdict.WAITING
        return is_waiting and self.lease_until is not None and self.lease_until > timezone.now()


class RestingHost(models.Model):
    """A host that answered "slow down": no address of it is fetched before ``rests_until`` (catalog.intake.lines)."""

    host = models.CharField(max_length=255, primary_key=True, help_text="As IntakeLine.host.")
    rests_until = models.DateTimeField()

    def __str__(self) -> str:
        return self.host


class IdempotencyKey(models.Model):
    """What a creating call of the API was answered, so that the same call sent again is answered the same.

    ``fingerprint``: sha256 of method, path and body. ``status`` is None while the first call is under way, until
    ``lease_until``: whoever sends it again after that takes it over (catalog.idempotency).
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=200)
    fingerprint = models.CharField(max_length=64)
    lease_until = models.DateTimeField()
    status = models.PositiveSmallIntegerField(null=True)
    answer = models.JSONField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["user", "key"], name="a_key_is_used_once_by_a_user")]

    def __str__(self) -> str:
        return self.key
