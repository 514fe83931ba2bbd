from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("search", "0002_evaluation_run")]

    operations = [
        migrations.AddField(
            model_name="indexgeneration",
            name="bytes",
            field=models.PositiveBigIntegerField(
                null=True, help_text="Of its files on a disk; empty where a server keeps it."
            ),
        ),
    ]
