"""What may be asked of the provider, and when: its meters (`meters`), what a request will take of them
(`costs`), and what tenants and labels may spend (`budgets`). Pure."""
