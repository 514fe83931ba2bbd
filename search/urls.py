"""Addresses of the page."""

from __future__ import annotations

from django.urls import path

from search import views

urlpatterns = [
    path("", views.page, name="page"),
    path("search/", views.upload, name="search-upload"),
    path("search/image/<uuid:pk>/", views.by_image, name="search-image"),
    path("search/region/<uuid:pk>/", views.by_region, name="search-region"),
    path("search/<slug:token>/", views.kept, name="search-kept"),
    path("images/<uuid:pk>/", views.image_page, name="image-page"),
]
