"""Jobs and their lines as JSON and CSV, and what a job is made from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.reverse import reverse

from catalog.api.fields import ReferenceSerializer, StrictSerializer
from catalog.api.serializers import IntakeLineSerializer
from catalog.duplicates.of_lines import count_alike
from catalog.intake.errors import JobError, ListRefused
from catalog.intake.jobs import checked_rule
from catalog.job_overview import STATES, csv_name, lines_csv, state_of_job
from catalog.models import IntakeJob
from catalog.overview import count_lines, progress_of
from catalog.querysets import Viewer

MADE_FROM = ("urls", "list", "csv")  # one of these fields


class JobLineSerializer(IntakeLineSerializer):
    waits_until = serializers.DateTimeField(
        source="rests_until", read_only=True, allow_null=True, help_text="It is not tried before; `reason` says why."
    )

    class Meta(IntakeLineSerializer.Meta):
        fields = ["id", "number", *IntakeLineSerializer.Meta.fields[1:], "waits_until"]
        read_only_fields = fields


class ProgressSerializer(serializers.Serializer[Any]):
    """`finished` of `total` lines have come to their end; `waiting` have not."""

    total = serializers.IntegerField()
    finished = serializers.IntegerField()
    waiting = serializers.IntegerField()
    verdicts = serializers.DictField(child=serializers.IntegerField(), help_text="Lines by verdict.")
    images = serializers.DictField(
        source="statuses", child=serializers.IntegerField(), help_text="Images that it stored, by status."
    )
    rate = serializers.FloatField(allow_null=True, help_text="Images a second, lately.")
    seconds_left = serializers.FloatField(allow_null=True, help_text="At that rate; null where nobody can say.")


class JobSerializer(serializers.ModelSerializer[IntakeJob]):
    """Of a job that `count_lines` has counted the lines of."""

    collection = ReferenceSerializer(read_only=True)
    state = serializers.SerializerMethodField()
    total = serializers.IntegerField(source="line_count", read_only=True, help_text="Its lines.")
    waiting = serializers.IntegerField(source="waiting_count", read_only=True, help_text="Of them not at their end.")
    lines = serializers.SerializerMethodField(help_text="Address of its lines.")

    class Meta:
        model = IntakeJob
        fields = [
            *("id", "collection", "source", "name", "state", "normalise", "created_at"),
            *("total", "waiting", "lines"),
        ]
        read_only_fields = fields

    @extend_schema_field(serializers.ChoiceField(choices=list(STATES)))
    def get_state(self, job: IntakeJob) -> str:
        return state_of_job(job, total=job.line_count, waiting=job.waiting_count)  # type: ignore[attr-defined]

    @extend_schema_field(OpenApiTypes.URI)
    def get_lines(self, job: IntakeJob) -> str:
        return reverse("job-lines", kwargs={"pk": job.pk}, request=self.context.get("request"))


class JobDetailSerializer(JobSerializer):
    progress = serializers.SerializerMethodField()
    near_duplicates = serializers.SerializerMethodField(
        help_text="How many of its images look like others and wait for a choice: "
        "`near-duplicates/?job={id}&open=true`, where you may choose."
    )

    class Meta(JobSerializer.Meta):
        fields = [*JobSerializer.Meta.fields, "progress", "near_duplicates"]
        read_only_fields = fields

    @extend_schema_field(ProgressSerializer)
    def get_progress(self, job: IntakeJob) -> dict[str, Any]:
        return dict(ProgressSerializer(progress_of(job)).data)

    def get_near_duplicates(self, job: IntakeJob) -> int:
        return count_alike(job, self.context["request"].user)


class JobBegunSerializer(JobDetailSerializer):
    tried_again = serializers.IntegerField(
        read_only=True, help_text="Lines that had failed, where the job of the same list goes on."
    )

    class Meta(JobDetailSerializer.Meta):
        fields = [*JobDetailSerializer.Meta.fields, "tried_again"]
        read_only_fields = fields


def told(job: IntakeJob, context: Mapping[str, Any]) -> dict[str, Any]:
    """A job as it is now, as JSON."""
    now = IntakeJob.objects.select_related("collection").get(pk=job.pk)
    count_lines([now])
    return dict(JobDetailSerializer(now, context=dict(context)).data)


def csv_response(job: IntakeJob, user: Viewer) -> StreamingHttpResponse:
    """All its lines as a file."""
    disposition = {"Content-Disposition": f'attachment; filename="{csv_name(job)}"'}
    return StreamingHttpResponse(lines_csv(job, user), content_type="text/csv; charset=utf-8", headers=disposition)


class JobForm(StrictSerializer):
    """A list of addresses, which workers fetch: in the body, as a text file, or as a CSV file with what is known."""

    collection = serializers.CharField(help_text="Id or name of a collection that you edit.")
    urls = serializers.ListField(
        child=serializers.CharField(max_length=2000), required=False, help_text="Addresses, http or https."
    )
    list = serializers.FileField(required=False, allow_empty_file=True, help_text="A text file, an address a line.")
    csv = serializers.FileField(
        required=False, allow_empty_file=True, help_text="A CSV file with a column `url` and any others of docs/api.md."
    )
    name = serializers.CharField(max_length=255, default="", allow_blank=True, help_text="What you call it.")
    normalise = serializers.CharField(
        max_length=20,
        default="",
        allow_blank=True,
        help_text="What is made of each file before it is kept: `longest:1024`, `square:512`; empty keeps it as it is.",
    )

    def validate_normalise(self, rule: str) -> str:
        try:
            return checked_rule(rule)
        except JobError as error:
            raise serializers.ValidationError(str(error)) from error

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if len([name for name in MADE_FROM if name in attrs]) != 1:
            raise serializers.ValidationError("Send exactly one of urls, list and csv.")
        return attrs


def refused(field: str, error: ListRefused) -> serializers.ValidationError:
    """All that is wrong with a list, by its line."""
    said = [str(problem) for problem in error.problems] + ([f"and {error.more} more."] if error.more else [])
    return serializers.ValidationError({field: said})
