"""Records: every index that was built, and every evaluation.

What serves is decided by the pointer on disk, see search.engines.
"""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Func, Q, Value
from uuid_utils.compat import uuid7

from catalog.models import Collection, EmbeddingModel


class IndexGeneration(models.Model):
    """One build of one embedding model's index.

    ::

        building ──► published ──► superseded (a newer one was published)
            │
            └──────► failed (reason)

    A row that is still ``building`` although its builder died is settled by the next builder of the same model.
    ``sequence`` says which began later: ids and times come from a clock, and clocks jump.
    """

    class Status(models.TextChoices):
        BUILDING = "building"
        PUBLISHED = "published"
        FAILED = "failed"
        SUPERSEDED = "superseded"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    sequence = models.BigIntegerField(
        db_default=Func(Value("search_generation_sequence"), function="nextval"), editable=False
    )
    embedding_model = models.ForeignKey(EmbeddingModel, on_delete=models.CASCADE, related_name="generations")
    name = models.CharField(max_length=100, help_text="What search answers call it, and its folder's name.")
    engine = models.CharField(max_length=100)
    status = models.CharField(max_length=10, choices=Status, default=Status.BUILDING)
    reason = models.TextField(blank=True, help_text="Why it failed.")
    count = models.PositiveBigIntegerField(default=0, help_text="Embeddings in it.")
    bytes = models.PositiveBigIntegerField(
        null=True, help_text="Of its files on a disk; empty where a server keeps it."
    )
    highest_embedding_id = models.BigIntegerField(default=0, help_text="What is newer is not in it.")
    recall = models.FloatField(null=True, help_text="recall@10 against exact search, measured after the build.")
    parameters = models.JSONField(default=dict, help_text="Metric, options, what was measured, library versions.")
    build_seconds = models.FloatField(null=True, help_text="Reading, building and verifying.")
    created_at = models.DateTimeField(auto_now_add=True)
    published_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-sequence"]
        constraints = [
            models.UniqueConstraint(fields=["embedding_model", "name"], name="one_row_per_generation"),
            models.UniqueConstraint(
                fields=["embedding_model"], condition=Q(status="published"), name="one_published_generation_per_model"
            ),
            models.UniqueConstraint(
                fields=["embedding_model"], condition=Q(status="building"), name="one_builder_per_model"
            ),
            models.CheckConstraint(condition=~Q(status="failed") | ~Q(reason=""), name="a_failed_build_has_a_reason"),
            models.CheckConstraint(
                condition=~Q(status__in=["published", "superseded"])
                | Q(recall__isnull=False, published_at__isnull=False),
                name="a_published_build_was_measured",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class EvaluationRun(models.Model):
    """One evaluation of one embedding model on labelled images: what was measured, on what, when, by whom.

    ``figures`` is what search.evaluation.report.as_json gives, ``drawings`` are figures of it as SVG by name. Both are
    empty where it failed. ``collection`` is None where a folder was evaluated; a deleted collection takes its runs,
    which name images and people of it, along.
    """

    class Status(models.TextChoices):
        DONE = "done"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    embedding_model = models.ForeignKey(EmbeddingModel, on_delete=models.CASCADE, related_name="evaluation_runs")
    generation = models.ForeignKey(
        IndexGeneration, null=True, blank=True, on_delete=models.SET_NULL, related_name="evaluation_runs"
    )
    collection = models.ForeignKey(
        Collection, null=True, blank=True, on_delete=models.CASCADE, related_name="evaluation_runs"
    )
    what = models.CharField(max_length=500, help_text="What was evaluated, in words.")
    status = models.CharField(max_length=10, choices=Status, default=Status.DONE)
    reason = models.TextField(blank=True, help_text="Why it failed.")
    figures = models.JSONField(default=dict, blank=True)
    drawings = models.JSONField(default=dict, blank=True)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]
        verbose_name = "evaluation"
        constraints = [
            models.CheckConstraint(
                condition=~Q(status="failed") | ~Q(reason=""), name="a_failed_evaluation_has_a_reason"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.what} {self.created_at:%Y-%m-%d %H:%M}"
