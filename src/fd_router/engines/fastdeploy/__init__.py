"""FastDeploy's dialect: pairs by ``disaggregate_info``, answers that give a request back, ``/v1/abort_requests``."""
