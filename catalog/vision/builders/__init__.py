"""Programs that turn checked weights into ONNX graphs. They run in `manage.py models build`, never in a request."""
