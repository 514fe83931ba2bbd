"""An embedding's dimension is its model's: a composite foreign key, which Django's ForeignKey cannot say."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("catalog", "0001_initial")]

    operations = [
        migrations.RunSQL(
            sql="""
                ALTER TABLE catalog_embedding
                ADD CONSTRAINT embedding_dimension_is_its_models
                FOREIGN KEY (model_id, dimension) REFERENCES catalog_embeddingmodel (id, dimension)
                DEFERRABLE INITIALLY IMMEDIATE
            """,
            reverse_sql="ALTER TABLE catalog_embedding DROP CONSTRAINT embedding_dimension_is_its_models",
        ),
    ]
