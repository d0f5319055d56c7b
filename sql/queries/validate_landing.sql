-- What the suite `landing` judges: the landing zone's columns and their types, as the database has them now.
CREATE UNLOGGED TABLE {landing} AS
SELECT table_name || '.' || column_name || ': ' || data_type AS landed_column
FROM information_schema.columns
WHERE table_schema = current_schema()
  AND table_name IN ('conversations', 'messages', 'model_feedback')
