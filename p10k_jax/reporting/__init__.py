"""Reports: metric writers, trackers, pages and the progress line."""
