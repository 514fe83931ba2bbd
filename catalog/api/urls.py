"""Addresses below /api/v1/. They end in a slash; without it they answer the same."""

from __future__ import annotations

from django.urls import re_path
from rest_framework.routers import SimpleRouter

from catalog.api import auth, views

router = SimpleRouter()
router.trailing_slash = "/?"
router.register("collections", views.CollectionViewSet, basename="collection")
router.register("images", views.ImageViewSet, basename="image")
router.register("intake-lines", views.IntakeLineViewSet, basename="intake-line")
router.register("regions", views.RegionViewSet, basename="region")
router.register("people", views.PersonViewSet, basename="person")

urlpatterns = [
    *router.urls,
    re_path(r"^auth/login/?$", auth.LoginView.as_view(), name="login"),
    re_path(r"^auth/logout/?$", auth.LogoutView.as_view(), name="logout"),
    re_path(r"^auth/logoutall/?$", auth.LogoutAllView.as_view(), name="logout-all"),
]
