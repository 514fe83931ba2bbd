"""Every address of the site. (Addresses of one app live in that app.)"""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from search.api.suggestions import face_suggestions
from visearch_site import accounts, health

urlpatterns = [
    path("", include("search.urls")),
    path("login/", accounts.sign_in, name="sign-in"),
    path("logout/", accounts.sign_out, name="sign-out"),
    path("i18n/", include("django.conf.urls.i18n")),
    # before the admin's catch-all
    path("admin/faces/<uuid:pk>/suggestions", face_suggestions, name="face-suggestions"),
    path("admin/", admin.site.urls),
    path("", include("catalog.urls")),
    path("api/v1/", include("catalog.api.urls")),
    path("api/v1/", include("search.api.urls")),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs/", SpectacularSwaggerSplitView.as_view(authentication_classes=(), throttle_classes=())),
    path("healthz", health.healthz),
    path("readyz", health.readyz),
]

handler400 = "visearch_site.errors.bad_request"
handler403 = "visearch_site.errors.permission_denied"
handler404 = "visearch_site.errors.page_not_found"
handler500 = "visearch_site.errors.server_error"
