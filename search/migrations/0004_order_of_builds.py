from django.db import migrations, models
from django.db.models import Func, Value

SEQUENCE = "search_generation_sequence"


class Migration(migrations.Migration):
    """Which build began later, said by no clock. Those that are there are numbered by their ids, which came from one."""

    dependencies = [("search", "0003_bytes_of_a_generation")]

    operations = [
        migrations.RunSQL(f"CREATE SEQUENCE {SEQUENCE} AS bigint", f"DROP SEQUENCE {SEQUENCE}"),
        migrations.AddField(
            model_name="indexgeneration",
            name="sequence",
            field=models.BigIntegerField(db_default=Func(Value(SEQUENCE), function="nextval"), editable=False),
        ),
        migrations.RunSQL(
            "UPDATE search_indexgeneration row SET sequence = numbered.place"
            " FROM (SELECT id, row_number() OVER (ORDER BY id) AS place FROM search_indexgeneration) numbered"
            " WHERE row.id = numbered.id",
            migrations.RunSQL.noop,
        ),
        migrations.AlterModelOptions(name="indexgeneration", options={"ordering": ["-sequence"]}),
    ]
