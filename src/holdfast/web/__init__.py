"""The edge: who is calling, errors as answers, paging, preconditions, middleware, health. No feature lives here."""
