"""The served page: requests of many visitors, answered together by one generator."""
