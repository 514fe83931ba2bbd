"""Addresses below /api/v1/. They end in a slash; without it they answer the same."""

from __future__ import annotations

from django.urls import re_path
from rest_framework.routers import SimpleRouter

from catalog.api import auth, jobs, near_duplicates, views

router = SimpleRouter()
router.trailing_slash = "/?"
router.register("collections", views.CollectionViewSet, basename="collection")
router.register("images", views.ImageViewSet, basename="image")
router.register("intake-lines", views.IntakeLineViewSet, basename="intake-line")
router.register("jobs", jobs.JobViewSet, basename="job")
router.register("regions", views.RegionViewSet, basename="region")
router.register("people", views.PersonViewSet, basename="person")

JOB = rf"^jobs/(?P<pk>{views.UUID_PATTERN})"

urlpatterns = [
    *router.urls,
    re_path(rf"{JOB}/lines/?$", jobs.JobLinesView.as_view(), name="job-lines"),
    re_path(rf"{JOB}/lines\.csv$", jobs.JobCsvView.as_view(), name="job-csv"),
    re_path(
        rf"^near-duplicates/(?P<pk>{views.UUID_PATTERN})/?$",
        near_duplicates.NearDuplicateViewSet.as_view({"get": "retrieve", "post": "decide"}),
        name="near-duplicate-detail",
    ),
    re_path(
        r"^near-duplicates/?$",
        near_duplicates.NearDuplicateViewSet.as_view({"get": "list"}),
        name="near-duplicate-list",
    ),
    re_path(r"^auth/login/?$", auth.LoginView.as_view(), name="login"),
    re_path(r"^auth/logout/?$", auth.LogoutView.as_view(), name="logout"),
    re_path(r"^auth/logoutall/?$", auth.LogoutAllView.as_view(), name="logout-all"),
]
