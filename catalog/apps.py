from django.apps import AppConfig


class CatalogConfig(AppConfig):
    name = "catalog"
    verbose_name = "Catalogue"

    def ready(self) -> None:
        from catalog import checks, deletion  # noqa: F401, PLC0415 - register themselves; models must be loaded first
