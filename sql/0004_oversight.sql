-- A training tells of intervals between validations too, and of whatever it runs on: a GPU or a processor.

ALTER TABLE training_metrics DROP CONSTRAINT training_metrics_pkey;
ALTER TABLE training_metrics RENAME COLUMN gpu_utilisation TO utilisation; -- percent
ALTER TABLE training_metrics RENAME COLUMN gpu_memory_bytes TO memory_bytes;
ALTER TABLE training_metrics
    ADD COLUMN kind text NOT NULL DEFAULT 'validation' CHECK (kind IN ('interval', 'validation')),
    ADD COLUMN recipe text NOT NULL DEFAULT 'continue',
    ADD COLUMN gradient_norm double precision,
    ADD COLUMN throttled text, -- why the clocks were lowered since the row before, '' where they were not
    ADD COLUMN paused_seconds double precision NOT NULL DEFAULT 0, -- of the training so far, while too hot
    ADD COLUMN overfitting_risk real, -- 0 to 1
    ALTER COLUMN epoch TYPE double precision, -- a validation may fall within one
    ALTER COLUMN epoch DROP NOT NULL,
    ALTER COLUMN train_loss DROP NOT NULL,
    ALTER COLUMN validation_loss DROP NOT NULL,
    ALTER COLUMN learning_rate DROP NOT NULL,
    ALTER COLUMN tokens_per_second DROP NOT NULL,
    ADD CONSTRAINT training_metrics_validated CHECK (kind = 'interval' OR validation_loss IS NOT NULL),
    ADD PRIMARY KEY (run_id, model_key, kind, step);
-- What was written before is of the one recipe and the one kind of row there were; from here on each row says.
ALTER TABLE training_metrics ALTER COLUMN kind DROP DEFAULT, ALTER COLUMN recipe DROP DEFAULT;
