import django.db.models.deletion
import uuid_utils.compat
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('catalog', '0002_embedding_dimension_is_its_models'),
    ]

    operations = [
        migrations.CreateModel(
            name='IndexGeneration',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('name', models.CharField(help_text="What search answers call it, and its folder's name.", max_length=100)),
                ('engine', models.CharField(max_length=100)),
                ('status', models.CharField(choices=[('building', 'Building'), ('published', 'Published'), ('failed', 'Failed'), ('superseded', 'Superseded')], default='building', max_length=10)),
                ('reason', models.TextField(blank=True, help_text='Why it failed.')),
                ('count', models.PositiveBigIntegerField(default=0, help_text='Embeddings in it.')),
                ('highest_embedding_id', models.BigIntegerField(default=0, help_text='What is newer is not in it.')),
                ('recall', models.FloatField(help_text='recall@10 against exact search, measured after the build.', null=True)),
                ('parameters', models.JSONField(default=dict, help_text='Metric, options, what was measured, library versions.')),
                ('build_seconds', models.FloatField(help_text='Reading, building and verifying.', null=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('published_at', models.DateTimeField(null=True)),
                ('embedding_model', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='generations', to='catalog.embeddingmodel')),
            ],
            options={
                'ordering': ['-id'],
                'constraints': [models.UniqueConstraint(fields=('embedding_model', 'name'), name='one_row_per_generation'), models.UniqueConstraint(condition=models.Q(('status', 'published')), fields=('embedding_model',), name='one_published_generation_per_model'), models.UniqueConstraint(condition=models.Q(('status', 'building')), fields=('embedding_model',), name='one_builder_per_model'), models.CheckConstraint(condition=models.Q(models.Q(('status', 'failed'), _negated=True), models.Q(('reason', ''), _negated=True), _connector='OR'), name='a_failed_build_has_a_reason'), models.CheckConstraint(condition=models.Q(models.Q(('status__in', ['published', 'superseded']), _negated=True), models.Q(('published_at__isnull', False), ('recall__isnull', False)), _connector='OR'), name='a_published_build_was_measured')],
            },
        ),
    ]
