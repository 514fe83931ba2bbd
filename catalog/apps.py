from django.apps import AppConfig
from django.db.models.signals import post_migrate


class CatalogConfig(AppConfig):
    name = "catalog"
    verbose_name = "Catalogue"

    def ready(self) -> None:
        from catalog import checks, deletion  # noqa: F401, PLC0415 - register themselves; models must be loaded first
        from catalog.groups import make_editors  # noqa: PLC0415 - models must be loaded first

        post_migrate.connect(make_editors, sender=self, dispatch_uid="catalog.groups.make_editors")
