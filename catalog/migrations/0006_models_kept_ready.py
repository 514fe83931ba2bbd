from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("catalog", "0005_taught_models")]

    operations = [
        migrations.AddField(
            model_name="embeddingmodel",
            name="fill",
            field=models.CharField(
                blank=True,
                choices=[("", "no"), ("asked", "kept up"), ("paused", "Paused")],
                default="",
                help_text="Whether workers compute what it lacks while another model serves.",
                max_length=10,
            ),
        ),
        migrations.AddField(
            model_name="embeddingmodel",
            name="filled_to",
            field=models.BigIntegerField(default=0, editable=False),
        ),
    ]
