"""A search as JSON: what is asked, and the answer in the shape that docs/api.md explains."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from catalog.api.fields import BoxSerializer, OneOrManyField, ReferenceSerializer, RenditionsField, StrictSerializer
from catalog.models import Image, Region
from search.engines.types import Strategy
from search.explaining import Explanation
from search.querying import MAX_K, Answer, Match, QueryRegion

SOURCES = ("image", "region", "image_id")
MAX_COLLECTIONS = 100
DEFAULT_K = 20


class SearchForm(StrictSerializer):
    """One of `image`, `region` and `image_id`, and options."""

    image = serializers.FileField(required=False, allow_empty_file=True, help_text="A file (multipart); never stored.")
    region = serializers.UUIDField(required=False, help_text="Id of a stored region.")
    image_id = serializers.UUIDField(required=False, help_text="Id of a stored image.")
    pipeline = serializers.CharField(
        required=False,
        allow_null=True,
        help_text=(
            "face, image or digit. Without it: faces when you may search them and one is found, else the first of the "
            "others that the collections run."
        ),
    )
    face = serializers.IntegerField(
        required=False, allow_null=True, min_value=0, help_text="Index into `query.regions`; without it the best (0)."
    )
    k = serializers.IntegerField(
        default=DEFAULT_K,
        min_value=1,
        max_value=MAX_K,
        help_text="Images wanted; an image's best region stands for it.",
    )
    collection = OneOrManyField(
        child=serializers.CharField(),
        required=False,
        min_length=1,
        max_length=MAX_COLLECTIONS,
        help_text="Ids or names of collections to search in; may be repeated. Without it: all that you may search.",
    )
    beyond_near = serializers.BooleanField(
        default=False, help_text="Also what is farther than the model's measured limit of being near."
    )

    explain = serializers.BooleanField(
        default=False, help_text="How the answer was found, as `explanation` in it. For staff; 403 for others."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        given = [name for name in SOURCES if name in attrs]
        if len(given) != 1:
            found = "none was" if not given else " and ".join(given) + " were"
            message = f"Send exactly one of image (a file, multipart), region and image_id (ids); {found} sent."
            raise serializers.ValidationError({"image": [message]})
        return attrs


class FoundImageSerializer(serializers.ModelSerializer[Image]):
    collection = ReferenceSerializer(read_only=True)
    renditions = RenditionsField()

    class Meta:
        model = Image
        fields = ["id", "label", "title", "collection", "link", "renditions"]
        read_only_fields = fields


class FoundRegionSerializer(serializers.Serializer[Region]):
    box = BoxSerializer(source="*")
    person = ReferenceSerializer(allow_null=True)


class MatchSerializer(serializers.Serializer[Match]):
    image = FoundImageSerializer()
    region = FoundRegionSerializer()
    distance = serializers.FloatField(help_text="In the model's metric; 0: the same vector. Smaller is nearer.")
    similarity = serializers.FloatField(
        allow_null=True, help_text="1 at distance 0, 0.5 at the measured *same*, 0 at *near*; null: never measured."
    )


class QueryRegionSerializer(serializers.Serializer[QueryRegion]):
    pipeline = serializers.CharField()
    box = BoxSerializer()
    score = serializers.FloatField(help_text="The detector's own confidence, 0 to 1.")


class QuerySerializer(serializers.Serializer[Answer]):
    width = serializers.IntegerField(help_text="Pixels, oriented.")
    height = serializers.IntegerField(help_text="Pixels, oriented.")
    regions = QueryRegionSerializer(many=True, help_text="What was found in the query, best first.")


class ExplanationSerializer(serializers.Serializer[Explanation]):
    strategy = serializers.ChoiceField(
        choices=["", *(str(strategy) for strategy in Strategy)],
        help_text="How the generation was searched at the last ask; empty where there is none.",
    )
    rows = serializers.IntegerField(help_text="Vectors in the generation.")
    allowed = serializers.IntegerField(help_text="Of them those in the scope.")
    nodes = serializers.IntegerField(help_text="Asked of the graph, in all asks.")
    rounds = serializers.IntegerField(help_text="Of the graph, in all asks.")
    scanned = serializers.IntegerField(help_text="Vectors of the generation compared one by one, in all asks.")
    delta = serializers.IntegerField(help_text="Vectors newer than the generation, compared one by one at each ask.")
    asks = serializers.IntegerField(help_text="To the index; more than one where hits dropped out.")
    hits = serializers.IntegerField(help_text="Of the last ask.")
    dropped = serializers.IntegerField(
        help_text="Of these hits those that may not be shown: deleted, hidden, dismissed, forbidden, another label."
    )
    index_milliseconds = serializers.FloatField(help_text="What the index took.")
    milliseconds = serializers.FloatField(help_text="All of it but reading the image that was sent.")


class AnswerSerializer(serializers.Serializer[Answer]):
    pipeline = serializers.CharField()
    model = serializers.CharField(help_text="The embedder and the beginning of its fingerprint.")
    generation = serializers.CharField(
        allow_null=True, help_text="The index that answered; null: the database, exactly, as no index was built yet."
    )
    query = QuerySerializer(source="*")
    results = MatchSerializer(many=True, help_text="Nearest first.")


class ExplainedAnswerSerializer(AnswerSerializer):
    explanation = ExplanationSerializer(required=False, help_text="Only where staff sent `explain`.")
