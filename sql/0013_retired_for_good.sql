-- A version whose files went is never un-retired: of its row nothing changes but when the last of them was gone.

CREATE FUNCTION refuse_unretiring() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'UPDATE' THEN
        RAISE EXCEPTION 'a retired version stays retired: its files are gone';
    END IF;
    IF OLD.finished_at IS NOT NULL OR NEW.finished_at IS NULL
        OR (NEW.version, NEW.training_key, NEW.source, NEW.retired_at)
            IS DISTINCT FROM (OLD.version, OLD.training_key, OLD.source, OLD.retired_at) THEN
        RAISE EXCEPTION 'of the retired version % nothing changes but finished_at, once', OLD.version;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER retired_for_good BEFORE UPDATE OR DELETE ON retired_versions
    FOR EACH ROW EXECUTE FUNCTION refuse_unretiring();
CREATE TRIGGER retired_for_good_all BEFORE TRUNCATE ON retired_versions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_unretiring();
ALTER TABLE retired_versions ENABLE ALWAYS TRIGGER retired_for_good, ENABLE ALWAYS TRIGGER retired_for_good_all;
