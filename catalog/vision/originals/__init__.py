"""The article's own packages (mtcnn and keras-vggface, both on TensorFlow) as they were published: to compare with, and
to choose by settings.

They run in processes of their own and nowhere else, so that neither TensorFlow nor what old code needs to run on it
enters the site: `client.Original` starts `child.py`, which loads one of `programs/`. The training of the digits
(catalog.digits.training) runs in such a process, too.
"""
