"""Operations on the service itself, beside those on its accounts."""
