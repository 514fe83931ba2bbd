"""What gunicorn serves."""

import os

from django.core.wsgi import get_wsgi_application

from catalog.vision import registry

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "visearch_site.settings")

application = get_wsgi_application()
registry.descriptions()  # gunicorn runs no system checks: wrong settings of models stop it here, in their words
