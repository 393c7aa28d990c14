package peer;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import java.util.LinkedHashMap;
import java.util.Map;

/** A line of JSON for the runner. */
final class Line {
    private static final Gson JSON = new GsonBuilder().serializeNulls().disableHtmlEscaping().create();

    private final Map<String, Object> facts = new LinkedHashMap<>();

    static Line of(String name, Object value) {
        return new Line().with(name, value);
    }

    /** Adds a fact, or replaces the one of that name. */
    Line with(String name, Object value) {
        facts.put(name, value);
        return this;
    }

    void tell() {
        synchronized (Line.class) {
            System.out.println(JSON.toJson(facts));
            System.out.flush();
        }
    }
}
