"""A model as a service: requests over HTTP, painted together by replicas on Ray."""
